"""Binance's public archive: zipped CSV files with a published SHA-256 (helper of the source in binance.py).

`metrics`: a file a day and contract, 5-minute rows of open interest and ratios. `fundingRate`: a file a month. Each file arrives with
its CHECKSUM companion; one that does not match is put aside whole (PITFALLS B2). Files may lack the header (B9), rows (B3, B4) or
values (issue 498). Labels changed on 2026-06-25 (B1) *by file*: the row stamped 2026-06-25 00:00 carries an END label in the file of
06-24 and a START label in the file of 06-25.

Files are published again without notice (B5): every file that was read leaves a row in `archive_files` with both hashes, and
`archiveChecksums` asks for the CHECKSUM alone, to compare it with the one that was seen with the file (transforms/republished.py).

Layout and CHECKSUM: https://github.com/binance/binance-public-data
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
from isal import isal_zlib

from transforms import conventions
from transforms.reading import Floats, Mask, Nullable, Sieve, Stamps, floats, instants, micros, stamp, to_us
from transforms.republished import ENDPOINT, FILE, option
from transforms.sources.binance_rows import SOURCE, interest, who
from transforms.sources.contract import Answer, Ask, Decoded, Reject, Series, Unreadable
from transforms.sources.rows import settled, whole_minutes
from transforms.windows import Window

CHECKSUMS: Final = "archiveChecksums"
#: a day of metrics unpacks to about 45 kB, a month of funding to 3 kB
UNPACKED_LIMIT: Final = 4 * 2**20
METRICS: Final = (
    "create_time",
    "symbol",
    "sum_open_interest",
    "sum_open_interest_value",
    "count_toptrader_long_short_ratio",
    "sum_toptrader_long_short_ratio",
    "count_long_short_ratio",
    "sum_taker_long_short_vol_ratio",
)
FUNDING: Final = ("calc_time", "funding_interval_hours", "last_funding_rate")
#: ratio_metric -> column that holds long / short; the taker ratio alone gives no volumes and is not decoded
RATIO_COLUMNS: Final = {
    "global_account": "count_long_short_ratio",
    "top_account": "count_toptrader_long_short_ratio",
    "top_position": "sum_toptrader_long_short_ratio",
}
_DATED: Final = re.compile(r"-(\d{4}-\d{2})(-\d{2})?\.zip$")
_CHECKSUM: Final = re.compile(r"\s*([0-9a-fA-F]{64})\s+\*?(\S+)\s*")
_WRITTEN: Final = re.compile(r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2})?")
#: digits of a Unix stamp -> microseconds in its unit: the archive changed units without a word (PITFALLS B6)
_UNIX: Final = {10: 1_000_000, 13: 1_000, 16: 1}
_DAMAGE: Final[tuple[type[Exception], ...]] = (
    zipfile.BadZipFile,
    isal_zlib.error,  # type: ignore[assignment]  # its stub declares an instance
    struct.error,
    NotImplementedError,
    EOFError,
    ValueError,
    IndexError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Lines:
    """A CSV file: its columns as texts, lines of another width put aside, and notes."""

    columns: dict[str, list[str]]
    rejects: list[Reject]
    notes: list[str]

    def take(self, chosen: Mask) -> dict[str, list[str]]:
        """The columns at the chosen lines."""
        places = np.flatnonzero(chosen)
        return {name: [values[i] for i in places] for name, values in self.columns.items()}


def paths(series: Series) -> Iterator[str]:
    """Paths of the files that hold the window, in order of time.

    A day's metrics describe (00:00, 24:00]; a month's funding holds the settlements stamped in [first 00:00, next month's first).
    A series about one file that is known by its path names it among its options.
    """
    name = series.instrument
    if (one := option(series, FILE)) or series.endpoint == CHECKSUMS:
        yield one
        return
    if series.endpoint == "archiveMetrics":
        for day in series.window.days():
            yield f"/data/futures/um/daily/metrics/{name}/{name}-metrics-{day}.zip"
        return
    month = series.window.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= series.window.end:
        yield f"/data/futures/um/monthly/fundingRate/{name}/{name}-fundingRate-{month:%Y-%m}.zip"
        month = (month + timedelta(days=31)).replace(day=1)


def metrics(ask: Ask, answer: Answer) -> Decoded:
    """Open interest and the three ratios on the 15-minute grid of one day's file.

    Lines on the 5-minute grid between are no rows of ours, lines outside the window asked for are another window's. A stamp off the
    5-minute grid or outside the file's own day is put aside. Shares follow from the ratio: long = r / (1 + r), short = 1 / (1 + r).
    """
    file = _lines(ask, answer, METRICS, "open_interest")
    day = Window.day(date.fromisoformat(_dated(ask)))
    period = conventions.span(SOURCE, "archiveMetrics", "period", day.start)
    raw, readable = _instants(file.columns["create_time"])
    as_of = raw + conventions.shift(SOURCE, "archiveMetrics", day.start) // timedelta(microseconds=1)
    symbols = file.columns["symbol"]

    whole = Sieve("open_interest", _texts(file.columns), file.rejects)
    whole.refuse(~readable, "STAMP", lambda i: f"found create_time {file.columns['create_time'][i]!r}, expected YYYY-MM-DD HH:MM:SS")
    strange = np.array([symbol != ask.series.instrument for symbol in symbols], dtype=np.bool_)
    whole.refuse(strange, "CONVENTION", lambda i: f"found symbol {symbols[i]!r} in {ask.path}")
    whole.inside(as_of, day, period)
    chosen = whole.keep & _within(as_of, ask.series.window)
    if ask.series.step is not None:
        chosen &= as_of % (ask.series.step // timedelta(microseconds=1)) == 0

    cells, as_of = file.take(chosen), as_of[chosen]
    texts = _texts(cells)
    stock = Sieve("open_interest", texts)
    native = stock.texts("open_interest_native", cells["sum_open_interest"])
    usd = stock.texts("open_interest_usd", cells["sum_open_interest_value"])
    stock.single([as_of], [native, usd])
    stocks = interest(stock, ask, as_of, native, Nullable(usd, np.ones(len(usd), dtype=np.bool_)))

    put_aside, splits = [*whole.rejects, *stock.rejects], []
    for metric, column in RATIO_COLUMNS.items():
        sieve = Sieve("long_short", texts)
        long, short = _shares(sieve, column, cells[column])
        sieve.single([as_of], [long])
        names = who(ask, as_of)
        splits.append(sieve.table({**names, "ratio_metric": metric, "long_share": long, "short_share": short}))
        put_aside += sieve.rejects
    tables = {"open_interest": stocks, "long_short": pa.concat_tables(splits), "archive_files": _seen(ask, answer, day)}
    return Decoded(tables, put_aside, file.notes)


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled funding of one month's file, which states the interval. Settlements outside the window are another window's."""
    file = _lines(ask, answer, FUNDING, "funding")
    first = datetime.fromisoformat(f"{_dated(ask)}-01").replace(tzinfo=UTC)
    month = Window(first, (first + timedelta(days=31)).replace(day=1))
    times = file.columns["calc_time"]
    raw, readable = _instants(times)

    whole = Sieve("funding", _texts(file.columns), file.rejects)
    whole.refuse(~readable, "STAMP", lambda i: f"found calc_time {times[i]!r}, expected a Unix stamp")
    foreign = (raw < to_us(month.start)) | (raw >= to_us(month.end))
    whole.refuse(foreign, "STAMP", lambda i: f"calc_time {stamp(raw[i])} is not in the file's month {month}")
    chosen = whole.keep & _within(whole_minutes(raw), ask.series.window)

    cells = file.take(chosen)
    sieve = Sieve("funding", _texts(cells))
    as_of = settled(sieve, raw[chosen], ask)
    interval = sieve.texts("funding_interval_h", cells["funding_interval_hours"])
    scale = conventions.number(SOURCE, "archiveFundingRate", "rate_scale", ask.series.window.start)
    rate = sieve.texts("funding_rate", cells["last_funding_rate"], scale)
    sieve.single([as_of], [rate, interval])
    table = sieve.table(
        {
            **who(ask, as_of),
            "funding_rate": rate,
            "funding_kind": "settlement",
            "funding_interval_h": interval,
        }
    )
    spans = Window(month.start - timedelta.resolution, month.end - timedelta.resolution)  # the first instant is this file's
    return Decoded({"funding": table, "archive_files": _seen(ask, answer, spans)}, [*whole.rejects, *sieve.rejects], file.notes)


def checksum(ask: Ask, answer: Answer) -> Decoded:
    """What the source publishes now as the SHA-256 of a file that was read before. Raises Unreadable (CHECKSUM) when it is another text."""
    name = ask.path.rsplit("/", 1)[-1].removesuffix(".CHECKSUM")
    row = _row(
        ask,
        answer,
        option(ask.series, ENDPOINT),
        option(ask.series, FILE),
        ask.series.window,
        _published(answer.body, name, "archive_files"),
    )
    return Decoded({"archive_files": row})


def _seen(ask: Ask, answer: Answer, spans: Window) -> pa.Table:
    """The row about a file that was read, `spans` what it holds."""
    published = _published(answer.companion, ask.path.rsplit("/", 1)[-1], "archive_files")
    window = ask.series.window.clip(spans) or spans
    return _row(ask, answer, ask.series.endpoint, ask.path, window, published, answer.sha256)


def _row(ask: Ask, answer: Answer, endpoint: str, file: str, window: Window, published: str, found: str | None = None) -> pa.Table:
    sieve = Sieve("archive_files", [file])
    return sieve.table(
        {
            **who(ask, np.array([to_us(answer.fetched_at)], dtype=np.int64)),
            "endpoint": endpoint,
            "file": file,
            "window_start": instants(np.array([to_us(window.start)], dtype=np.int64)),
            "window_end": instants(np.array([to_us(window.end)], dtype=np.int64)),
            "checksum_sha256": published,
            "file_sha256": found,
        }
    )


def _texts(columns: dict[str, list[str]]) -> list[str]:
    """The lines as they stood: the evidence of a reject."""
    return [",".join(line) for line in zip(*columns.values(), strict=True)]


def _within(as_of: Stamps, window: Window) -> Mask:
    return np.asarray((as_of > to_us(window.start)) & (as_of <= to_us(window.end)), dtype=np.bool_)


def _shares(sieve: Sieve, column: str, texts: Sequence[str]) -> tuple[Floats, Floats]:
    """Long and short share of long / short ratios; an empty or negative ratio is put aside (VALUE)."""
    found = floats(texts)
    sieve.refuse(~(np.isfinite(found) & (found >= 0.0)), "VALUE", lambda i: f"{column} = {texts[i]!r}, expected a ratio of 0 or more")
    with np.errstate(invalid="ignore", divide="ignore"):
        return found / (1.0 + found), 1.0 / (1.0 + found)


def _instants(texts: Sequence[str]) -> tuple[Stamps, Mask]:
    """Written UTC times or Unix stamps in seconds, milliseconds or microseconds, as microseconds; and where they could be read."""
    found: list[int] = []
    for text in texts:
        if text.isdigit() and len(text) in _UNIX:
            found.append(int(micros([text], _UNIX[len(text)])[0][0]))
            continue
        try:
            found.append(to_us(datetime.fromisoformat(text).replace(tzinfo=UTC)) if _WRITTEN.fullmatch(text) else -1)
        except ValueError:
            found.append(-1)
    values = np.array(found, dtype=np.int64)
    return values, np.asarray(values > 0, dtype=np.bool_)


def _dated(ask: Ask) -> str:
    """The day (2022-05-09) or month (2022-05) in the file's name."""
    found = _DATED.search(ask.path)
    if not found:
        raise ValueError(f"{ask.path} names no date; archive files are called <symbol>-<dataset>-<date>.zip")
    return found[1] + (found[2] or "")


def _lines(ask: Ask, answer: Answer, expected: tuple[str, ...], target: str) -> Lines:
    """The file's columns, by its header where it has one."""
    body = _unpacked(ask, answer, target)
    header = body.split(b"\n", 1)[0].decode("utf-8", "replace").strip("\ufeff\r ").split(",")
    titled = not header[0][:1].isdigit()
    missing = [name for name in expected if titled and name not in header]
    if missing:
        raise Unreadable(Reject(target, "SHAPE", f"columns {', '.join(missing)} are missing in {ask.path}", ",".join(header)))
    extra = [name for name in header if titled and name not in expected]
    names = header if titled else list(expected)
    rejects: list[Reject] = []

    def put_aside(row: Any) -> str:
        detail = f"line has {row.actual_columns} cells, expected {row.expected_columns}"
        rejects.append(Reject(target, "SHAPE", detail, row.text or ""))
        return "skip"

    _, _, rest = body.partition(b"\n")
    lines = rest if titled else body
    if not lines.strip():
        return Lines({name: [] for name in expected}, [], [])
    try:
        table = pcsv.read_csv(
            pa.BufferReader(lines),
            read_options=pcsv.ReadOptions(column_names=names, use_threads=False),
            parse_options=pcsv.ParseOptions(invalid_row_handler=put_aside),
            convert_options=pcsv.ConvertOptions(include_columns=list(expected), column_types=dict.fromkeys(expected, pa.string())),
        )
    except pa.ArrowInvalid as fault:
        raise Unreadable(Reject(target, "MALFORMED", f"{ask.path}: {fault}", lines[:2000].decode("utf-8", "replace"))) from fault
    notes = [f"not in the archive's layout, kept out: columns {', '.join(extra)} of {ask.path}"] if extra else []
    return Lines({name: table.column(name).to_pylist() for name in expected}, rejects, notes)


def _unpacked(ask: Ask, answer: Answer, target: str) -> bytes:
    """The only member of a zip whose SHA-256 is the published one. Raises Unreadable (CHECKSUM, ARCHIVE)."""
    name = ask.path.rsplit("/", 1)[-1]
    published, found = _published(answer.companion, name, target), answer.sha256
    if found != published:
        raise Unreadable(Reject(target, "CHECKSUM", f"{name} has SHA-256 {found}, published is {published}"))
    try:
        return _member(answer.body, name.removesuffix(".zip") + ".csv")
    except _DAMAGE as damage:
        raise Unreadable(Reject(target, "ARCHIVE", f"{name}: {damage or type(damage).__name__}")) from damage


def _published(text: bytes, name: str, target: str) -> str:
    """The SHA-256 that a CHECKSUM states of the file `name`. Raises Unreadable (CHECKSUM)."""
    said = _CHECKSUM.fullmatch(text.decode("utf-8", "replace"))
    if not said or said[2] != name:
        raise Unreadable(Reject(target, "CHECKSUM", f"no CHECKSUM of {name} came, found {text[:200].decode('utf-8', 'replace')!r}"))
    return said[1].lower()


def _member(body: bytes, expected: str) -> bytes:
    """Inflate the one member with ISA-L, up to UNPACKED_LIMIT whatever its header promises. Raises one of _DAMAGE."""
    with zipfile.ZipFile(io.BytesIO(body)) as packed:
        members = packed.infolist()
    if [member.filename for member in members] != [expected]:
        raise ValueError(f"members are {[member.filename for member in members][:5]}, expected {expected} alone")
    member = members[0]
    if member.flag_bits & 1:
        raise ValueError("the member is encrypted")
    if member.file_size > UNPACKED_LIMIT:
        raise ValueError(f"unpacks to {member.file_size} bytes, allowed {UNPACKED_LIMIT}")
    names, extra = struct.unpack_from("<HH", body, member.header_offset + 26)
    start = member.header_offset + 30 + names + extra
    packed_bytes = body[start : start + member.compress_size]
    if member.compress_type == zipfile.ZIP_STORED:
        found = packed_bytes
    elif member.compress_type == zipfile.ZIP_DEFLATED:
        found = isal_zlib.decompressobj(-15).decompress(packed_bytes, UNPACKED_LIMIT + 1)
    else:
        raise ValueError(f"compression method {member.compress_type} is not in use by this archive")
    if len(found) > UNPACKED_LIMIT:
        raise ValueError(f"unpacks beyond {UNPACKED_LIMIT} bytes")
    if len(found) != member.file_size or isal_zlib.crc32(found) != member.CRC:
        raise ValueError("the member's size or CRC-32 is not the one in its header")
    return bytes(found)
