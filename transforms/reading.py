"""How an answer becomes columns: a strict shape, declared limits, and a reason for everything that is put aside.

One rule for shapes, for all sources: a missing field or another type rejects the row (SHAPE, with the path to it); a field that the
shape does not name is kept out, the row is taken, and a note names the field. What is wrong with a row rejects the row; what is
wrong with the answer (truncated, an error page, no list where a list is due) raises Unreadable. Rows stay columns all the way:
structs from msgspec, numpy for the checks, Arrow at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar, cast

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.rulings import IN_FORCE
from transforms.sources.contract import Reject, Unreadable, table_of
from transforms.vocabulary import VOCABULARY
from transforms.windows import Window

Floats = NDArray[np.float64]
Stamps = NDArray[np.int64]  # microseconds since 1970, UTC
Mask = NDArray[np.bool_]
R = TypeVar("R", bound=msgspec.Struct)

#: Unix stamps up to the year 9999; anything else is no stamp.
Millis = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = "0123456789.+-eE"
_PLAIN: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CUT_AT: Final = re.compile(r"invalid (?:number|character) \(byte (\d+)\)$")
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_LAST: Final = 253_402_300_799_999_999  # microseconds until the year 10000
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Nullable(NamedTuple):
    """A column that may hold nulls: values, and where they are valid."""

    values: NDArray[Any]
    valid: Mask


@dataclass(frozen=True, slots=True)
class Read(Generic[R]):
    """Rows of the declared shape, and what was put aside or is worth a note."""

    rows: list[R]
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Shape(Generic[R]):
    """A declared JSON shape. Declare the struct with `forbid_unknown_fields=True`; a twin without it reads answers with extra fields."""

    def __init__(self, row: type[R], error: Callable[[bytes], str] | None = None) -> None:
        twin = msgspec.defstruct(row.__name__, [], bases=(row,), forbid_unknown_fields=False)
        self.error = error
        self._strict: msgspec.json.Decoder[list[R]] = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        self._loose: msgspec.json.Decoder[list[R]] = msgspec.json.Decoder(list[twin])  # type: ignore[valid-type]
        self._one_strict: msgspec.json.Decoder[R] = msgspec.json.Decoder(row)
        self._one_loose: msgspec.json.Decoder[R] = msgspec.json.Decoder(cast("type[R]", twin))
        self._raw = msgspec.json.Decoder(list[msgspec.Raw])

    def many(self, body: bytes | msgspec.Raw, target: str, at: str = "$") -> Read[R]:
        """A list of rows. Raises Unreadable when `body` is not a whole JSON list."""
        try:
            return Read(self._strict.decode(body))
        except _FAULTS as first:
            note = _extra(first, at)
            if note:
                try:
                    return Read(self._loose.decode(body), notes=[note])
                except _FAULTS:
                    pass
        return self._one_by_one(bytes(body), target, at, [note] if note else [])

    def one(self, body: bytes, target: str) -> tuple[R, list[str]]:
        """A single object, and notes. Raises Unreadable when it is of another shape."""
        try:
            return self._one_strict.decode(body), []
        except _FAULTS as first:
            note = _extra(first, "$")
            if note:
                try:
                    return self._one_loose.decode(body), [note]
                except _FAULTS as second:
                    raise self.unreadable(body, second, target) from second
            raise self.unreadable(body, first, target) from first

    def unreadable(self, body: bytes, fault: Exception, target: str) -> Unreadable:
        """Names what is wrong with a whole answer: an error page, the venue's own error, a cut, another format or another shape."""
        start = body[:2000].decode("utf-8", "replace")
        if start.lstrip("\ufeff \t\r\n")[:1] == "<":
            return Unreadable(Reject(target, "CONTENT_TYPE", "found a markup page where JSON is due", start))
        if self.error and (said := self.error(body)):
            return Unreadable(Reject(target, "VENUE_ERROR", said, start))
        if isinstance(fault, msgspec.ValidationError):
            return Unreadable(Reject(target, "SHAPE", str(fault), start))
        # a number cut after its point is "malformed" exactly where the answer ends; so is a character too many, which is no cut
        cut_at = _CUT_AT.search(str(fault))
        if "truncated" in str(fault) or (cut_at and int(cut_at[1]) >= len(body)):
            return Unreadable(
                Reject(
                    target, "TRUNCATED", f"the answer ends after {len(body)} bytes, in the middle", body[-2000:].decode("utf-8", "replace")
                )
            )
        return Unreadable(Reject(target, "MALFORMED", str(fault) or type(fault).__name__, start))

    def _one_by_one(self, body: bytes, target: str, at: str, notes: list[str]) -> Read[R]:
        """The slow way, taken only when some row is wrong: the others are kept."""
        try:
            raws = self._raw.decode(body)
        except _FAULTS as fault:
            raise self.unreadable(body, fault, target) from fault
        read: Read[R] = Read([], notes=notes)
        for number, raw in enumerate(raws):
            try:
                try:
                    row = self._one_strict.decode(raw)
                except msgspec.ValidationError as fault:
                    row = self._one_loose.decode(raw)
                    if not notes:
                        notes.append(_extra(fault, f"{at}[{number}]"))
                read.rows.append(row)
            except _FAULTS as fault:
                said = str(fault) or type(fault).__name__
                place = f"`{at}[{number}]"
                detail = said.replace("`$", place) if " - at `$" in said else f"{said} - at {place}`"
                read.rejects.append(Reject(target, "SHAPE", detail, bytes(raw).decode("utf-8", "replace")))
        return read


def _extra(fault: Exception, at: str) -> str:
    """The note about a field that the shape does not name; empty when `fault` is about something else."""
    found = str(fault)
    if not isinstance(fault, msgspec.ValidationError) or not found.startswith(
        ("Object contains unknown field", "Expected `array` of at most")
    ):
        return ""
    return f"not in the venue's document, kept out: {found.replace('`$', f'`{at}')}"


class Sieve:
    """Rows on their way from an answer to one table. The first thing wrong with a row is its reason."""

    def __init__(self, target: str, rows: Sequence[Any], rejects: Sequence[Reject] = ()) -> None:
        self.target = target
        self.rows = rows
        self.rejects = list(rejects)
        self.keep: Mask = np.ones(len(rows), dtype=np.bool_)
        self._rulings = IN_FORCE.get()
        if self._rulings.barred:
            self._bar()

    def _bar(self) -> None:
        """Put aside what a person rejected, with the reason it had then: also where today's decoder would take it."""
        for i in range(len(self.rows)):
            text = self._evidence(i)
            if found := self._rulings.barred.get((self.target, text)):
                self.rejects.append(Reject(self.target, *found, text))
                self.keep[i] = False

    def refuse(self, bad: Mask, reason: str, say: Callable[[int], str]) -> None:
        """Put aside the kept rows where `bad` holds; `say` words the detail of row i. A row that a person released for the reason stays."""
        if self._rulings.waived:
            let = [i for i in np.flatnonzero(bad & self.keep) if (self.target, reason, self._evidence(int(i))) in self._rulings.waived]
            bad = bad.copy()
            bad[let] = False
        for i in np.flatnonzero(bad & self.keep):
            self.rejects.append(Reject(self.target, reason, say(int(i)), self._evidence(int(i))))
        self.keep &= ~bad

    def _evidence(self, i: int) -> str:
        row = self.rows[i]
        return row if isinstance(row, str) else msgspec.json.encode(row).decode()

    def limits(self, name: str, values: Floats, scale: float = 1.0, *, valid: Mask | None = None) -> Floats:
        """`values * scale`, checked: finite, and within the vocabulary's limits of column `name` (VALUE). Where not `valid`, unchecked."""
        column = VOCABULARY[name]
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = values * scale + 0.0  # -0 is 0
            bad = ~np.isfinite(scaled)
            if column.minimum is not None:
                bad |= scaled < column.minimum
            if column.maximum is not None:
                bad |= scaled > column.maximum
        if valid is not None:
            bad &= valid
        self.refuse(
            bad, "VALUE", lambda i: f"{name} = {float(scaled[i])!r} {column.unit}, allowed {column.minimum} to {column.maximum}, finite"
        )
        return scaled

    def texts(self, name: str, values: Sequence[str], scale: float = 1.0) -> Floats:
        """Numeric texts as numbers (times `scale`), checked like `limits`."""
        return self.limits(name, floats(values), scale)

    def inside(self, as_of: Stamps, window: Window, step: timedelta | None) -> None:
        """Rows must lie in the window asked for and on its grid (STAMP)."""
        bad = (as_of <= to_us(window.start)) | (as_of > to_us(window.end))
        self.refuse(bad, "STAMP", lambda i: f"as_of {stamp(as_of[i])} is outside the window asked for, {window}")
        if step is not None:
            off = as_of % (step // timedelta(microseconds=1)) != 0
            self.refuse(off, "STAMP", lambda i: f"as_of {stamp(as_of[i])} is off the grid of {step}")

    def single(self, key: Sequence[NDArray[Any]], values: Sequence[NDArray[Any]]) -> None:
        """Different values for one key: all of its rows are put aside, for nobody can say which one is right (DUPLICATE_KEY).

        Exact repetitions stay: the load step counts them.
        """
        places = np.flatnonzero(self.keep)
        if len(set(zip(*(part[places].tolist() for part in key), strict=True))) == len(places):
            return
        seen: dict[tuple[Any, ...], set[str]] = {}
        keys = [tuple(part[i] for part in key) for i in range(len(self.rows))]
        for i in places:
            seen.setdefault(keys[i], set()).add(repr([value[i] for value in values]))
        bad = np.array([len(seen.get(one, ())) > 1 for one in keys], dtype=np.bool_)
        self.refuse(bad, "DUPLICATE_KEY", lambda i: f"{len(seen[keys[i]])} different values for one key in one answer")

    def table(self, columns: Mapping[str, Any]) -> pa.Table:
        """The kept rows. A column is an array over all rows, a Nullable, or one value for all."""
        return table_of(self.target, {name: _column(value, self.keep) for name, value in columns.items()})


def _column(value: Any, keep: Mask) -> Any:
    if isinstance(value, Nullable):
        return pa.array(value.values[keep], mask=~value.valid[keep])
    if isinstance(value, np.ndarray):
        return value[keep]
    if value is None:
        return pa.nulls(int(keep.sum()))
    return pa.repeat(value, int(keep.sum()))


def floats(values: Sequence[str]) -> Floats:
    """Plain decimal texts as the nearest doubles; NaN where a text is anything else (empty, nan, inf, 1_0, 0x1, a blank).

    >>> floats(["0.1", "-3e-2", "nan", "1_0", ""])
    array([ 0.1 , -0.03,   nan,   nan,   nan])
    """
    if not "".join(values).strip(_DIGITS):
        try:
            return np.array([float(value) for value in values], dtype=np.float64)
        except ValueError:
            pass
    return np.array([float(value) if _PLAIN.fullmatch(value) else np.nan for value in values], dtype=np.float64)


def micros(values: Sequence[int | str], scale: int) -> tuple[Stamps, Mask]:
    """Unix stamps (ints, or texts of digits) times `scale`, in microseconds, and where they could be read.

    >>> micros([1602819600000, "1602819600000", "soon"], 1000)[1]
    array([ True,  True, False])
    """
    whole = [int(value) if not isinstance(value, str) or _WHOLE.fullmatch(value) else -1 for value in values]
    readable = np.array([0 <= value * scale <= _LAST for value in whole], dtype=np.bool_)
    return np.array([value if 0 <= value * scale <= _LAST else 0 for value in whole], dtype=np.int64) * scale, readable


def moments(values: Sequence[datetime | None]) -> tuple[Stamps, Mask]:
    """Instants in microseconds, and where they are stamps: from 1970 until the year 10000. None, and what lies outside, is 0 and is none.

    A text may name an instant that no column can hold: `0001-01-01T00:00+14:00` lies in the year before the first.
    """
    whole = [-1 if value is None else to_us(value) for value in values]
    held = np.array([0 <= value <= _LAST for value in whole], dtype=np.bool_)
    return np.array([value if 0 <= value <= _LAST else 0 for value in whole], dtype=np.int64), held


def to_us(instant: datetime) -> int:
    """Unix stamp in microseconds."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_us(micro: int) -> datetime:
    """UTC instant of a Unix stamp in microseconds."""
    return _EPOCH + timedelta(microseconds=micro)


def stamp(micro: int | np.int64) -> str:
    """A stamp for a message; any 64-bit number will do."""
    return f"{np.datetime64(int(micro), 'us')}Z"


def instants(as_of: Stamps) -> NDArray[np.datetime64]:
    """A column of instants from microseconds."""
    return as_of.astype("datetime64[us]")


class _Said(msgspec.Struct):
    message: str


_SAID: Final = msgspec.json.Decoder(_Said)


def message_error(body: bytes) -> str:
    """A server's own error of the form `{"message": "..."}`, e.g. `Invalid/Missing API key`; empty when the body is none."""
    try:
        return _SAID.decode(body).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
