"use strict";
// The few calls that Great Expectations' pages make of jQuery and bootstrap-table, without either: a table from columns and rows, show and hide.
(function () {
  function wrap(nodes) {
    const list = Array.from(nodes);
    const each = (work) => { list.forEach(work); return wrap(list); };
    return {
      ready: (work) => { work(); return wrap(list); },
      on: () => wrap(list),
      parent: () => wrap(list.map((node) => node.parentElement).filter(Boolean)),
      each: (work) => each((node, place) => work(place, node)),
      fadeIn: () => each((node) => { node.style.display = ""; }),
      fadeOut: () => each((node) => { node.style.display = "none"; }),
      data: (name) => list[0] && list[0].dataset[name],
      bootstrapTable: (options) => each((node) => { if (typeof options === "object") fill(node, options); }),
    };
  }

  // cells are markup that the site builder escaped and rendered
  function fill(table, options) {
    const columns = options.columns.filter((column) => column.visible !== false && column.visible !== "false");
    const head = table.createTHead().insertRow();
    for (const column of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = column.title;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of options.data) {
      const line = body.insertRow();
      for (const column of columns) {
        const cell = line.insertCell();
        cell.innerHTML = row[column.field] ?? "";
      }
      const first = line.cells[Math.min(1, line.cells.length - 1)];
      if (row._table_row_link_path && !first.querySelector("a")) {
        const link = document.createElement("a");
        link.href = row._table_row_link_path;
        link.append(...first.childNodes);
        first.append(link);
      }
    }
  }

  window.$ = function (what) {
    if (typeof what === "function") {
      what();
      return wrap([]);
    }
    return wrap(typeof what === "string" ? document.querySelectorAll(what) : [what]);
  };
})();
