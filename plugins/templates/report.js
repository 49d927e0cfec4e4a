"use strict";
// Unpacks the chosen series, hands it to the charts, and keeps ranges, colours and the readout in step. No network, no storage.
(() => {
  const DAY = 86400000;
  const STATUS = ["ok", "indicative", "withheld"];
  const BANDS = [[25, "extreme fear"], [45, "fear"], [55, "neutral"], [75, "greed"], [101, "extreme greed"]];
  const byId = (id) => document.getElementById(id);
  const setup = JSON.parse(byId("setup").textContent);
  const PLOTS = ["s", "f", "x", "strip", "price", "drawdown", "parts"];
  const ORIGIN = { S: 50, F: 0, X: 0 };
  const EVENT_MARKS = { long: "inverted_triangle", short: "triangle", up: "triangle", down: "inverted_triangle", none: "circle" };
  const state = { key: null, data: null, index: "S", span: "all", ready: false, pinned: null };
  const model = (name) => Bokeh.documents[0].get_model_by_name(name);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const signed = (hundredths) => (hundredths > 0 ? "+" : hundredths < 0 ? "\u2212" : "") + (Math.abs(hundredths) / 100).toFixed(2);
  const spaced = (name) => name.replaceAll("_", " ");
  const level = (value) => setup.levels[Math.min(Math.floor(value / 25), 3)];
  const kind = (name) => spaced(name.toLowerCase()).replace(/^liq /, "liquidation ").replace(/^oi /, "OI ");
  const stamp = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

  function price(usd) {
    if (usd >= 1000) return usd.toLocaleString("en-US", { maximumFractionDigits: usd >= 10000 ? 0 : 1 });
    return usd >= 1e-4 ? String(Number(usd.toPrecision(5))) : usd.toPrecision(4);
  }

  function unpack(key) {
    const text = byId("series-" + key);
    if (!text) return null;
    const raw = JSON.parse(text.textContent);
    let at = raw.start;
    raw.t = raw.minutes.map((step) => (at += step * 60000));
    raw.gap = new Set(raw.breaks);
    raw.step = raw.cadence === "1h" ? DAY / 24 : DAY;
    return raw;
  }

  // Columns of the lines: one row per instant, and a row of nothing on either side of a gap, so that no line is drawn across.
  function lines(raw) {
    const line = { t: [], s: [], f: [], x: [], price: [], drawdown: [], depth: [] };
    const points = (values, i) => (values[i] === null ? NaN : values[i] / 100);
    raw.t.forEach((t, i) => {
      if (raw.gap.has(i)) {
        for (const at of [raw.t[i - 1] + 1, t - 1]) {
          line.t.push(at);
          for (const name of ["s", "f", "x", "price", "drawdown"]) line[name].push(NaN);
          line.depth.push(0);
        }
      }
      const below = raw.drawdown[i] === null ? NaN : raw.drawdown[i] / 10000;
      line.t.push(t); line.s.push(points(raw.s, i)); line.f.push(points(raw.f, i)); line.x.push(points(raw.x, i));
      line.price.push(raw.price[i] ?? NaN); line.drawdown.push(below); line.depth.push(isNaN(below) ? 0 : below);
    });
    return line;
  }

  // Layers of the chosen number's contributions. Across a gap, and around a withheld value, they fall to zero at once.
  function layers(raw) {
    const groups = Object.values(raw.parts[state.index]), explained = raw[state.index.toLowerCase()];
    const stack = { t: [], net: [] };
    for (let n = 0; n < setup.layers; n++) for (const side of ["+", "-", "+0", "-0"]) stack[n + side] = [];
    const put = (t, i) => {
      let up = 0, down = 0;
      stack.t.push(t);
      for (let n = 0; n < setup.layers; n++) {
        const points = i === null || n >= groups.length ? 0 : groups[n][i] / 100;
        stack[n + "+0"].push(up); stack[n + "-0"].push(down);
        if (points > 0) up += points; else down += points;
        stack[n + "+"].push(up); stack[n + "-"].push(down);
      }
      stack.net.push(i === null ? NaN : up + down);
    };
    raw.t.forEach((t, i) => {
      const none = explained[i] === null;
      if (i > 0 && (raw.gap.has(i) || none !== (explained[i - 1] === null))) { put(raw.t[i - 1] + 1, null); put(t - 1, null); }
      put(t, none ? null : i);
    });
    return stack;
  }

  function regimes(raw) {
    const found = { left: [], right: [], colour: [], tint: [], strength: [], word: [] };
    for (const [start, end, code] of raw.regimes) {
      const [word, paint] = setup.regimes[code];
      found.left.push(raw.start + start * 60000); found.right.push(raw.start + end * 60000);
      found.colour.push(paint); found.tint.push(word === "neutral" ? 0 : 0.16); found.strength.push(word === "neutral" ? 0.4 : 0.95); found.word.push(word);
    }
    return found;
  }

  function events(raw) {
    const found = { t: [], y: [], mark: [], colour: [], size: [], what: [], side: [], severity: [], at: [], why: [], record: [] };
    for (const [minute, type, side, severity, why, record] of raw.events) {
      const [words, paint] = setup.sides[side], t = raw.start + minute * 60000;
      found.t.push(t); found.y.push(1.6); found.mark.push(EVENT_MARKS[side]); found.colour.push(paint); found.size.push(7 + severity / 20);
      found.what.push(kind(type)); found.side.push(words); found.severity.push((severity / 100).toFixed(2)); found.at.push(stamp(t));
      found.why.push(why); found.record.push(record);
    }
    return found;
  }

  function spans(raw, code) {
    const left = [], right = [];
    for (let i = 0; i < raw.t.length; i++) {
      if (raw.status[i] !== code) continue;
      const start = i > 0 && !raw.gap.has(i) ? raw.t[i - 1] : raw.t[i] - raw.step;
      if (left.length && right[right.length - 1] === start) right[right.length - 1] = raw.t[i];
      else { left.push(start); right.push(raw.t[i]); }
    }
    return { left, right };
  }

  // Vertical ranges follow what is in sight.
  function fit() {
    const raw = state.data, x = model("x");
    if (!raw) return;
    const explained = raw[state.index.toLowerCase()], groups = Object.values(raw.parts[state.index]);
    let low = Infinity, high = -Infinity, deep = 0, up = 0, down = 0;
    for (let i = 0; i < raw.t.length; i++) {
      if (raw.t[i] < x.start || raw.t[i] > x.end) continue;
      const usd = raw.price[i];
      if (usd !== null && usd > 0) { low = Math.min(low, usd); high = Math.max(high, usd); }
      deep = Math.max(deep, (raw.drawdown[i] || 0) / 10000);
      if (explained[i] === null) continue;
      let plus = 0, minus = 0;
      for (const values of groups) { if (values[i] > 0) plus += values[i] / 100; else minus += values[i] / 100; }
      up = Math.max(up, plus); down = Math.min(down, minus);
    }
    if (high > 0) {
      const room = Math.max(Math.pow(high / low, 0.06), 1.005);
      model("y-price").setv({ start: low / room, end: high * room });
    }
    model("y-drawdown").setv({ start: Math.max(deep * 1.12, 0.02), end: 0 });
    const most = Math.max(up, -down, 5) * 1.08;
    model("y-parts").setv({ start: state.index === "S" ? -most : Math.min(0, down * 1.08), end: most });
  }

  function zoom(span) {
    state.span = span;
    for (const button of byId("spans").children) button.setAttribute("aria-pressed", String(button.dataset.span === span));
    if (!state.data || !state.ready) return;
    const t = state.data.t, last = t[t.length - 1];
    const first = span === "all" ? t[0] : Math.max(t[0], last - Number(span) * DAY);
    const room = Math.max((last - first) * 0.01, state.data.step / 2);
    model("x").setv({ start: first - room, end: last + room });
  }

  function nearest(t, x) {
    let low = 0, high = t.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (t[mid] < x) low = mid; else high = mid; }
    return x - t[low] < t[high] - x ? low : high;
  }

  // One line of words for the instant under the pointer; the newest when there is none.
  function point(x) {
    const raw = state.data;
    if (!raw) return;
    const i = x === null ? raw.t.length - 1 : nearest(raw.t, x);
    state.pinned = x === null ? null : i;
    const bits = [];
    const add = (text, dot) => {
      const bit = document.createElement("span");
      if (dot) { const mark = bit.appendChild(document.createElement("i")); mark.className = "dot"; mark.style.background = dot; }
      bit.append(text);
      bits.push(bit);
      return bit;
    };
    add(stamp(raw.t[i]) + " UTC" + (x === null ? " (newest)" : ""));
    for (const index of ["S", "F", "X"]) {
      const value = raw[index.toLowerCase()][i], head = add("");
      const bold = head.appendChild(document.createElement("b"));
      bold.textContent = value === null ? index + " withheld" : index + " " + (value / 100).toFixed(2);
      if (value !== null) head.append(" " + (index === "S" ? BANDS.find((band) => value / 100 < band[0])[1] : level(value / 100)));
    }
    const minute = (raw.t[i] - raw.start) / 60000, regime = raw.regimes.find(([start, end]) => start < minute && minute <= end);
    if (regime) add(setup.regimes[regime[2]][0], setup.regimes[regime[2]][1]);
    add((STATUS[Number(raw.status[i])] || "unknown") + ", confidence " + (raw.confidence[i] / 100).toFixed(2));
    if (raw.price[i] !== null) add("price " + price(raw.price[i]) + " USD");
    if (raw.drawdown[i] !== null) add("OI " + (raw.drawdown[i] / 100).toFixed(1) + " % below its 90-day high");
    const explained = raw[state.index.toLowerCase()][i], origin = ORIGIN[state.index];
    if (explained !== null) {
      add(origin ? "S \u2212 50 = " + signed(explained - 5000) + " =" : state.index + " = " + (explained / 100).toFixed(2) + " =");
      for (const [name, values] of Object.entries(raw.parts[state.index])) add(spaced(name) + " " + signed(values[i]), setup.colours[name]);
    }
    for (const [at, type, side, , why] of raw.events) {
      if (at === minute) add("event: " + kind(type) + ", " + setup.sides[side][0] + ": " + why, setup.sides[side][1]).className = "event";
    }
    byId("readout").replaceChildren(...bits);
    if (!state.ready) return;
    for (const name of PLOTS) model("cursor-" + name).setv({ location: raw.t[i], visible: x !== null });
  }

  function paint() {
    if (!state.ready) return;
    const ink = colour("--ink"), soft = colour("--soft"), grid = colour("--grid"), main = colour("--s-line"), shade = colour("--shade");
    for (const name of PLOTS) {
      const plot = model("plot-" + name);
      plot.title.text_color = ink;
      for (const axis of [...plot.below, ...plot.left]) axis.major_label_text_color = soft;
      for (const line of plot.center) if ("grid_line_color" in line) line.grid_line_color = grid;
      model("cursor-" + name).line_color = soft;
      const mark = model("watermark-" + name);
      if (mark) mark.setv({ text_color: colour("--warn"), background_fill_color: colour("--surface") });
    }
    model("zero").line_color = soft;
    for (const name of ["s", "f", "x", "price", "net"]) model("line-" + name).glyph.line_color = { value: main };
    model("line-drawdown").glyph.line_color = { value: colour("--accent") };
    model("area-drawdown").glyph.fill_color = { value: colour("--accent") };
    for (const name of ["indicative", "withheld"]) {
      model("block-" + name).glyph.fill_color = { value: shade };
      model("block-" + name).glyph.hatch_color = { value: shade };
    }
  }

  // The chosen number's layers: their data, colours and legend.
  function stack() {
    const raw = state.data, names = Object.keys(raw.parts[state.index]), head = { S: "S \u2212 50", F: "F", X: "X" }[state.index];
    model("stack").data = layers(raw);
    for (let n = 0; n < setup.layers; n++) {
      for (const side of ["+", "-"]) model("area-" + n + side).glyph.fill_color = { value: setup.colours[names[n]] || "#888888" };
    }
    model("plot-parts").title.text = "Contributions to " + state.index + ", points";
    const entry = (text, paint) => {
      const one = document.createElement("span"), mark = one.appendChild(document.createElement("i"));
      mark.className = paint ? "swatch" : "swatch line";
      if (paint) mark.style.background = paint;
      one.append(text);
      return one;
    };
    byId("layers").replaceChildren(...names.map((name) => entry(spaced(name), setup.colours[name])), entry("their sum, " + head));
  }

  // S, F or X: whose contributions are listed and drawn.
  function explain(index) {
    state.index = document.documentElement.dataset.index = index;
    for (const button of document.querySelectorAll(".indices button")) button.setAttribute("aria-pressed", String(button.dataset.index === index));
    if (state.data && state.ready) { stack(); fit(); }
    point(null);
  }

  function select(key) {
    if (!byId("card-" + key)) return;
    state.key = key;
    for (const card of document.querySelectorAll(".card")) card.hidden = card.id !== "card-" + key;
    for (const row of document.querySelectorAll("#overview tbody tr")) row.classList.toggle("here", row.dataset.key === key);
    const [asset, cadence] = [byId("card-" + key).dataset.asset, byId("card-" + key).dataset.cadence];
    byId("asset").value = asset;
    for (const button of byId("cadences").children) {
      button.disabled = !byId("card-" + asset + "-" + button.dataset.cadence);
      button.setAttribute("aria-pressed", String(button.dataset.cadence === cadence));
    }
    state.data = unpack(key);
    byId("drawn").hidden = byId("uncharted").hidden = true;
    byId(state.data ? "drawn" : "uncharted").hidden = false;
    if (state.data && state.ready) {
      model("line").data = lines(state.data);
      model("regimes").data = regimes(state.data);
      model("events").data = events(state.data);
      model("indicative").data = spans(state.data, "1");
      model("withheld").data = spans(state.data, "2");
      for (const name of ["price", "drawdown"]) model("plot-" + name).visible = state.data[name].some((value) => value !== null);
      model("plot-strip").visible = state.data.regimes.length + state.data.events.length > 0;
      const count = (number) => number.toLocaleString("en-US");
      byId("thinning").textContent =
        (state.data.t.length < state.data.rows ? `Drawn: ${count(state.data.t.length)} of ${count(state.data.rows)} rows` : `All ${count(state.data.rows)} rows are drawn`) +
        (state.data.events.length < state.data.warned ? `, and the newest ${count(state.data.events.length)} of ${count(state.data.warned)} events. ` : ". ");
      stack();
      zoom(state.span);
      fit();
    }
    point(null);
  }

  function choose(asset) {
    const wanted = state.key && byId("card-" + state.key).dataset.cadence;
    const found = [wanted, ...setup.cadences].find((cadence) => byId("card-" + asset + "-" + cadence));
    go(asset + "-" + found);
  }

  function go(key) {
    select(key);
    history.replaceState(null, "", "#" + encodeURIComponent(key));
  }

  function sortable(table) {
    const body = table.tBodies[0];
    for (const button of table.querySelectorAll("th button")) {
      button.addEventListener("click", () => {
        const head = button.closest("th"), place = head.cellIndex;
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => { const text = row.cells[place].dataset.value; return text === "" ? null : isNaN(text) ? text : Number(text); };
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a), y = value(b);
          if (x === null || y === null) return (x === null) - (y === null); // what has no value comes last either way
          return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
        });
        body.append(...rows);
      });
    }
  }

  async function start() {
    const first = document.querySelector(".card");
    if (!first) return;
    sortable(byId("overview"));
    byId("asset").addEventListener("change", (event) => choose(event.target.value));
    for (const button of byId("cadences").children) {
      button.addEventListener("click", () => go(byId("asset").value + "-" + button.dataset.cadence));
    }
    for (const button of document.querySelectorAll(".indices button")) button.addEventListener("click", () => explain(button.dataset.index));
    explain("S");
    for (const button of byId("spans").children) button.addEventListener("click", () => zoom(button.dataset.span));
    for (const link of document.querySelectorAll("#overview a")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        go(link.dataset.key);
        byId("detail").scrollIntoView({ block: "start" });
      });
    }
    byId("charts").addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !state.data) return;
      event.preventDefault();
      const i = (state.pinned ?? state.data.t.length - 1) + step;
      point(state.data.t[Math.min(Math.max(i, 0), state.data.t.length - 1)]);
    });
    const fromHash = () => decodeURIComponent(location.hash.slice(1));
    window.addEventListener("hashchange", () => select(fromHash()));
    const wanted = byId("card-" + fromHash()) ? fromHash() : first.id.slice("card-".length);
    const item = byId("chart-item");
    if (item) {
      await Bokeh.embed.embed_item(JSON.parse(item.textContent), "charts");
      state.ready = true;
      paint();
      let waiting = false;
      const later = () => {
        if (waiting) return;
        waiting = true;
        requestAnimationFrame(() => { waiting = false; fit(); });
      };
      model("x").properties.start.change.connect(later);
      model("x").properties.end.change.connect(later);
      const ticks = () => {
        const wanted = Math.max(3, Math.min(9, Math.round(byId("charts").clientWidth / 120)));
        for (const name of PLOTS) {
          const plot = model("plot-" + name);
          plot.below[0].ticker.desired_num_ticks = wanted;
          for (const one of plot.below[0].ticker.tickers) one.desired_num_ticks = wanted;
        }
      };
      ticks();
      window.addEventListener("resize", ticks);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
      matchMedia("print").addEventListener("change", paint);
    }
    select(wanted);
    document.documentElement.dataset.ready = "yes";
  }

  window.addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
  window.tidegauge = { point, select, state };
  start();
})();
