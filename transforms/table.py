"""What a table is: columns chosen from the vocabulary, what one row is, what makes it unique, what its readers must know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from transforms.vocabulary import VOCABULARY, Column

Layer = Literal["core", "index", "ops"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between columns of one row. `severity`: critical = quarantine, warning = publish flagged, info = note."""

    code: str
    kind: Literal["not_above", "sums_to_one", "ratio_within"]
    columns: tuple[str, ...]
    severity: Literal["critical", "warning", "info"]
    limit: float = 0.0
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `grain` says what one row is; `key` is unique together with `revision` where the table has one."""

    name: str
    layer: Layer
    grain: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    published: bool = False
    #: one row per time of asking: what was seen then. Asking in pieces gives more of them, so "split equals whole" does not speak of these
    snapshot: bool = False
    fields: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.columns if name not in VOCABULARY]
        if unknown:
            raise ValueError(f"table {self.name} names columns that vocabulary.py does not declare: {unknown}")
        strange = [name for name in self.key if name not in self.columns]
        if strange:
            raise ValueError(f"table {self.name} has a key outside its columns: {strange}")
        object.__setattr__(self, "fields", {name: VOCABULARY[name] for name in self.columns})

    @property
    def identifier(self) -> str:
        """Name in the catalog: layer.name."""
        return f"{self.layer}.{self.name}"

    @property
    def content(self) -> tuple[str, ...]:
        """Columns that say something about the world: all but provenance. Content hashes cover these."""
        return tuple(name for name, column in self.fields.items() if not column.provenance)

    @property
    def decoded(self) -> tuple[str, ...]:
        """Columns a source's decoder fills; the rest (revision, date, flags, provenance) is added on loading."""
        added = {"revision", "date", "flags", "fetched_at", "raw_sha256"}
        return tuple(name for name in self.columns if name not in added)
