"""All configuration, read once from the environment into one frozen object. Method constants are not here: they are code (transforms/spec.py).

`python -m plugins.cli settings` prints the settings in force without secrets; .env.example lists them for compose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plugins.errors import ConfigurationError
from transforms.roster import DAILY_ASSETS, SOURCES
from transforms.vocabulary import MARKETS
from transforms.windows import Window, utc

if TYPE_CHECKING:
    from transforms.sources.contract import Source

ROOT: Final = Path(__file__).resolve().parents[1]
#: venues list what ended at the hour (a settlement, a snapshot) some time after it: asked before that, a gap would look like silence
SETTLES: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Settings:
    """Places and secrets. Each field is read from the variable of the same name in upper case with the prefix TIDEGAUGE_."""

    market: str  #: simulated, recorded or live: the label every published row carries
    home: Path  #: folder for everything the embedded services keep
    s3_endpoint: str  #: address of the object store; empty = AWS
    s3_bucket: str
    s3_access_key: str
    s3_secret_key: str
    s3_region: str
    catalog_url: str  #: SQLAlchemy address of the Iceberg catalog
    warehouse: str  #: prefix below the bucket
    sandbox_url: str = ""  #: address of the sandbox; empty = the venues' public endpoints
    sources: tuple[str, ...] = ()  #: sources to ask; empty = the whole roster
    hourly_assets: tuple[str, ...] = ()  #: empty = transforms/roster.py
    daily_assets: tuple[str, ...] = ()  #: empty = every instrument the daily source lists; a live market: transforms/roster.py
    now: datetime | None = None  #: replay only: the instant the recording takes for now
    #: JSON {source or "*": [[start, end], ...]}: what the market holds; empty = everything up to now
    spans: str = ""
    export: bool = False  #: also write mirror and report below `home`, for readers without the object store
    contact: str = ""  #: address or page that venues find in our User-Agent, to write to instead of banning
    budget_scale: float = 1.0  #: multiplies the venues' rate limits; only for the sandbox

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings from the environment; raises ConfigurationError naming what is missing or not understood."""

        def text(name: str, default: str | None = None) -> str:
            found = environment.get(f"TIDEGAUGE_{name}", default)
            if found is None:
                raise ConfigurationError(
                    f"TIDEGAUGE_{name} is not set: run through `make run` or `make up`, or copy .env.example (compose) and fill it in."
                )
            return found

        def instant(name: str) -> datetime | None:
            found = text(name, "")
            try:
                return utc(found) if found else None
            except ValueError as error:
                raise ConfigurationError(f"TIDEGAUGE_{name}: {error}.") from None

        def names(name: str) -> tuple[str, ...]:
            return tuple(part for part in text(name, "").replace(",", " ").split() if part)

        market = text("MARKET")
        if market not in MARKETS:
            raise ConfigurationError(f"TIDEGAUGE_MARKET is {market!r}; it must be one of {', '.join(MARKETS)}.")
        sandbox_url = text("SANDBOX_URL", "")
        if (market == "live") == bool(sandbox_url):
            raise ConfigurationError(
                f"TIDEGAUGE_MARKET={market} with TIDEGAUGE_SANDBOX_URL={sandbox_url!r}: only a simulated or recorded market has a sandbox, "
                "and what comes from a sandbox is never labelled live."
            )
        try:
            scale = float(text("BUDGET_SCALE", "1"))
        except ValueError as error:
            raise ConfigurationError(f"TIDEGAUGE_BUDGET_SCALE: {error}.") from None
        if scale != 1.0 and market == "live":
            raise ConfigurationError("TIDEGAUGE_BUDGET_SCALE is for the sandbox: the venues' own limits are not ours to raise.")
        unknown = [name for name in names("SOURCES") if name not in SOURCES]
        if unknown:
            raise ConfigurationError(f"TIDEGAUGE_SOURCES names {', '.join(unknown)}; the roster has {', '.join(SOURCES)}.")
        try:
            for held in json.loads(text("SPANS", "") or "{}").values():
                for start, end in held:
                    Window(utc(start), utc(end))
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f'TIDEGAUGE_SPANS is not understood ({error}): write it as {{"*": [["2025-01-01", "2025-04-01"]]}}, by source or * for all.'
            ) from None
        return cls(
            market=market,
            home=Path(text("HOME", str(ROOT / "var" / market))),
            s3_endpoint=text("S3_ENDPOINT", ""),
            s3_bucket=text("S3_BUCKET"),
            s3_access_key=text("S3_ACCESS_KEY"),
            s3_secret_key=text("S3_SECRET_KEY"),
            s3_region=text("S3_REGION", "us-east-1"),
            catalog_url=text("CATALOG_URL"),
            warehouse=text("WAREHOUSE", "lake"),
            sandbox_url=sandbox_url.rstrip("/"),
            sources=names("SOURCES"),
            hourly_assets=names("HOURLY_ASSETS"),
            daily_assets=names("DAILY_ASSETS") or (DAILY_ASSETS if market == "live" else ()),
            now=instant("NOW"),
            spans=text("SPANS", ""),
            export=text("EXPORT", "") == "1",
            contact=text("CONTACT", "").strip(),
            budget_scale=scale,
        )

    def clock(self) -> datetime:
        """Now; in a replay, the recording's own now."""
        return self.now or datetime.now(UTC)

    def spans_of(self, source: str) -> list[Window]:
        """What may be asked of a source: the spans its market holds, up to the last whole hour that is over for `SETTLES`."""
        hour = (self.clock() - SETTLES).replace(minute=0, second=0, microsecond=0)
        until = Window(datetime(2017, 1, 1, tzinfo=UTC), hour)
        if not self.spans:
            return [until]
        held = json.loads(self.spans)
        named = [Window(utc(start), utc(end)) for start, end in held.get(source, held.get("*", []))]
        return [part for span in named if (part := span.clip(until)) is not None]

    def hosts(self, source: Source) -> dict[str, str]:
        """Base address of each of the source's hosts: the venue's, or the sandbox's."""
        if self.sandbox_url:
            return {host: f"{self.sandbox_url}/{source.name}.{host}" for host in source.hosts}
        return dict(source.hosts)

    def key(self, source: Source) -> str:
        """The source's API key; a source that needs one and has none raises ConfigurationError when live."""
        if not source.key_variable:
            return ""
        found = os.environ.get(source.key_variable, "")
        if not found and self.market == "live":
            raise ConfigurationError(
                f"{source.key_variable} is not set: {source.name} needs a (free) key; leave {source.name} out of TIDEGAUGE_SOURCES otherwise."
            )
        return found or "sandbox"

    def redacted(self) -> dict[str, str]:
        """For printing: secrets are named, not shown."""
        hidden = {"s3_secret_key", "catalog_url"}
        return {field.name: "(set)" if field.name in hidden else str(getattr(self, field.name)) for field in fields(self)}
