"""Great Expectations' Data Docs beside the published data: built by its own site builder (expectations/docs.py), uploaded where they changed.

Its pages load style and script from public servers. Ours ask no network: the references are replaced by two small local files, so the pages
work without one and tell nobody who reads them. Each says first whether its market is simulated, recorded or live. What the site builder
wrote is otherwise untouched, but for its newsletter.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from plugins import gate
from plugins.lake import Lake
from plugins.wording import MARKET_WORDS

PREFIX: Final = "published/data-docs"
INDEX: Final = f"{PREFIX}/index.html"
ASSETS: Final = ("data_docs.css", "data_docs.js")
TYPES: Final = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
#: Whatever a page would fetch from elsewhere when opened: style sheets, scripts, pictures. Links that a reader may follow stay.
_FETCHED: Final = re.compile(
    r"""<link\b[^>]*\bhref=["']https?://[^>]*>"""
    r"""|<script\b[^>]*\bsrc=["']https?://[^>]*>\s*</script>"""
    r"""|<img\b[^>]*\bsrc=["']https?://[^>]*>""",
    re.IGNORECASE,
)
#: The newsletter of the makers is no part of the evidence.
_FOOTER: Final = re.compile(r"<footer>.*?</footer>", re.DOTALL)
_DRAWN: Final = re.compile(r"collapse-body-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TEMPLATES: Final = Path(__file__).parent / "templates"


def newest(verdicts: pa.Table) -> list[dict[str, Any]]:
    """Of each table the verdicts of the run that judged it last."""
    last = verdicts.group_by("table_name").aggregate([("recorded_at", "max")])
    names, stamps = last.column("table_name"), last.column("recorded_at_max")
    newest_of = stamps.take(pc.index_in(verdicts.column("table_name"), names))
    found: list[dict[str, Any]] = verdicts.filter(pc.equal(verdicts.column("recorded_at"), newest_of)).to_pylist()
    return found


def offline(page: str, depth: int, market: str) -> str:
    """A page of the site builder that asks no network and says of which market it speaks; `depth`: how many folders below the index it lies."""
    up = "../" * depth
    page = _FOOTER.sub("", _FETCHED.sub("", page))
    label = f'<p class="market {market}"><strong>{MARKET_WORDS[market][0]}</strong> - {MARKET_WORDS[market][1]}</p>'
    page = page.replace("<body>", f"<body>{label}", 1)
    for number, drawn in enumerate(dict.fromkeys(_DRAWN.findall(page))):  # named by chance: the same results are to give the same page
        page = page.replace(drawn, f"collapse-body-{number}")
    own = f'<link rel="stylesheet" href="{up}static/data_docs.css"><script src="{up}static/data_docs.js"></script>'
    return page.replace("</title>", f"</title>{own}", 1)


def site(verdicts: pa.Table, market: str) -> dict[str, bytes]:
    """The files of the site, by path below its index. `market`: simulated, recorded or live."""
    gate.warm()
    from expectations.docs import build

    found = {f"static/{name}": (_TEMPLATES / name).read_bytes() for name in ASSETS}
    with tempfile.TemporaryDirectory(prefix="tidegauge-docs-") as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        build(newest(verdicts), Path(place))
        for path in Path(place).rglob("*.html"):
            name = path.relative_to(place)
            found[name.as_posix()] = offline(path.read_text(encoding="utf-8"), len(name.parts) - 1, market).encode()
    return found


def publish(lake: Lake, verdicts: pa.Table, folder: Path | None = None) -> int:
    """Bring the site in the object store (and in a local folder) to the newest verdicts; returns how many objects were written."""
    wanted = {f"{PREFIX}/{name}": body for name, body in site(verdicts, lake.settings.market).items()}
    there = lake.keys(f"{PREFIX}/")
    changed = [key for key, body in wanted.items() if there.get(key) != hashlib.md5(body, usedforsecurity=False).hexdigest()]
    for key in changed:
        lake.put(key, wanted[key], TYPES[Path(key).suffix])
    lake.delete([key for key in there if key not in wanted])
    if folder is not None:
        for key, body in wanted.items():
            path = folder / key.removeprefix("published/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
    return len(changed)
