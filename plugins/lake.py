"""The lake: Iceberg tables in an object store, and the raw bundles beside them.

Every table is partitioned by `date`; a writer replaces whole days in one commit, so a reader sees the old rows or the new, never a mixture
(docs/adr/0003). Failures of the store become one plain sentence (plugins/errors.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import cached_property, partial, reduce
from operator import and_
from typing import TYPE_CHECKING, Any, Final

import boto3
import pyarrow as pa
import pyarrow.compute as pc
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import dataset
from pyarrow.fs import S3FileSystem
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, GreaterThan, GreaterThanOrEqual, LessThanOrEqual, Or
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)
from sqlalchemy.exc import SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from plugins.errors import CommitConflict, LakeRefused, LakeUnreachable
from plugins.lakefiles import file_system
from transforms.rulings import RELEASED
from transforms.schema import ARROW, arrow_schema, empty, in_key_order
from transforms.tables import TABLES, Table
from transforms.vocabulary import Kind

if TYPE_CHECKING:
    from plugins.settings import Settings

#: tries of one commit: nine venues that answer at once append to the same table of evidence
COMMITS: Final = 25
ALWAYS: Final = AlwaysTrue()
Spans = Mapping[str, tuple[datetime | None, datetime | None]]
EPOCH_DAY: Final = date(1970, 1, 1)
EMPTY: Final[dict[pa.DataType, object]] = {pa.int64(): 0, pa.string(): "", pa.bool_(): False}
TYPES: Final[Mapping[Kind, IcebergType]] = {
    "string": StringType(),
    "instant": TimestamptzType(),
    "day": DateType(),
    "float": DoubleType(),
    "int": LongType(),
    "bool": BooleanType(),
    "bytes": BinaryType(),
}
PROPERTIES: Final = {
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
    "commit.manifest-merge.enabled": "true",
    "commit.retry.num-retries": "0",
}
REFUSALS: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "NoSuchBucket", "404"}


@contextmanager
def plain_errors(endpoint: str) -> Iterator[None]:
    """Turn the store's and the catalog's exceptions into one sentence that says what to do."""
    place = endpoint or "AWS S3"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in REFUSALS:
            raise LakeRefused(
                f"The object store at {place} refused us ({code}): check TIDEGAUGE_S3_BUCKET, TIDEGAUGE_S3_ACCESS_KEY and TIDEGAUGE_S3_SECRET_KEY."
            ) from error
        raise LakeUnreachable(f"The object store at {place} answered {code or error}: look at its log and try again.") from error
    except BotoCoreError as error:
        raise LakeUnreachable(
            f"The object store at {place} does not answer ({type(error).__name__}): is it started, and is TIDEGAUGE_S3_ENDPOINT right?"
        ) from error
    except SQLAlchemyError as error:
        raise LakeUnreachable(
            f"The Iceberg catalog does not answer ({type(error).__name__}): is its database started, and is TIDEGAUGE_CATALOG_URL right?"
        ) from error
    except OSError as error:
        words = str(error)
        if any(sign in words for sign in ("ACCESS_DENIED", "403", "InvalidAccessKeyId", "NO_SUCH_BUCKET")):
            raise LakeRefused(
                f"The object store at {place} refused us: check TIDEGAUGE_S3_BUCKET, TIDEGAUGE_S3_ACCESS_KEY and TIDEGAUGE_S3_SECRET_KEY."
            ) from error
        if "NETWORK_CONNECTION" in words:
            raise LakeUnreachable(
                f"The object store at {place} does not answer: is it started, and is TIDEGAUGE_S3_ENDPOINT right?"
            ) from error
        raise LakeUnreachable(f"The object store at {place} failed while reading or writing: {words[:200]}") from error


def _span(days: tuple[date, date]) -> BooleanExpression:
    return And(GreaterThanOrEqual("date", days[0].isoformat()), LessThanOrEqual("date", days[1].isoformat()))


def _within(spans: Spans) -> BooleanExpression:
    """Columns between two instants, ends included; None is no end."""
    low = [GreaterThanOrEqual(column, first.isoformat()) for column, (first, _) in spans.items() if first is not None]
    high = [LessThanOrEqual(column, last.isoformat()) for column, (_, last) in spans.items() if last is not None]
    return reduce(And, [*low, *high], ALWAYS)


def _inside(column: str, first: datetime | None, last: datetime | None) -> list[pc.Expression]:
    low = [pc.field(column) >= pa.scalar(first, ARROW["instant"])] if first is not None else []
    return low + ([pc.field(column) <= pa.scalar(last, ARROW["instant"])] if last is not None else [])


def _equals(column: str, value: str | Sequence[str]) -> pc.Expression:
    return pc.field(column) == value if isinstance(value, str) else pc.field(column).isin(list(value))


def _filled(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows cast to the declared schema; what was stored before a column was declared gets its empty value where null is not allowed."""
    for number, field in enumerate(schema):
        if not field.nullable and rows.column(number).null_count and field.type in EMPTY:
            rows = rows.set_column(number, field.name, pc.fill_null(rows.column(number), EMPTY[field.type]))
    return rows.cast(schema)


def iceberg_schema(table: Table) -> Schema:
    """The declared schema in Iceberg's terms, with numbered fields: so a table is made with its partition in one commit, not in two."""
    fields = enumerate(arrow_schema(table), start=1)
    return Schema(*(NestedField(n, one.name, TYPES[table.fields[one.name].kind], required=not one.nullable) for n, one in fields))


class Lake:
    """Tables by name (transforms/tables.py) and objects by key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tables: dict[str, IcebergTable] = {}

    @cached_property
    def s3(self) -> Any:
        """Signed client for plain objects."""
        chosen = self.settings
        return boto3.client(
            "s3",
            endpoint_url=chosen.s3_endpoint or None,
            aws_access_key_id=chosen.s3_access_key,
            aws_secret_access_key=chosen.s3_secret_key,
            region_name=chosen.s3_region,
            config=Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"}, max_pool_connections=16),
        )

    @cached_property
    def catalog(self) -> SqlCatalog:
        """The Iceberg catalog; its tables live below the warehouse prefix."""
        chosen = self.settings
        properties = {
            "s3.access-key-id": chosen.s3_access_key,
            "s3.secret-access-key": chosen.s3_secret_key,
            "s3.region": chosen.s3_region,
            "py-io-impl": "plugins.lakefiles.OnePutFileIO",
        }
        if chosen.s3_endpoint:
            properties["s3.endpoint"] = chosen.s3_endpoint
        with plain_errors(chosen.s3_endpoint):
            return SqlCatalog("tidegauge", uri=chosen.catalog_url, warehouse=f"s3://{chosen.s3_bucket}/{chosen.warehouse}", **properties)

    @cached_property
    def files(self) -> S3FileSystem:
        """The object store as a file system for readers of Parquet."""
        chosen = self.settings
        return file_system(
            access_key=chosen.s3_access_key, secret_key=chosen.s3_secret_key, region=chosen.s3_region, endpoint=chosen.s3_endpoint
        )

    def check(self) -> None:
        """Reach the bucket with our key, or raise the sentence that says why not."""
        with plain_errors(self.settings.s3_endpoint):
            self.s3.head_bucket(Bucket=self.settings.s3_bucket)

    def create(self) -> None:
        """Make every declared table that does not exist yet, and add to existing ones the columns that were declared since."""
        with plain_errors(self.settings.s3_endpoint):
            for layer in sorted({table.layer for table in TABLES.values()}):
                self.catalog.create_namespace_if_not_exists(layer)
            for table in TABLES.values():
                if self.catalog.table_exists(table.identifier):
                    self._widen(table)
                else:
                    schema = iceberg_schema(table)
                    by_day = PartitionField(schema.find_field("date").field_id, 1000, IdentityTransform(), "date")
                    self.catalog.create_table(table.identifier, schema, partition_spec=PartitionSpec(by_day), properties=PROPERTIES)

    def _widen(self, table: Table) -> None:
        """Columns declared after the table was made are added as optional: old rows read as 0, empty or null (`_filled`)."""
        stored = self.catalog.load_table(table.identifier)
        missing = [name for name in table.columns if name not in stored.schema().column_names]
        if missing:
            with stored.update_schema() as change:
                change.union_by_name(pa.schema([field.with_nullable(True) for field in arrow_schema(table, tuple(missing))]))

    def iceberg(self, name: str) -> IcebergTable:
        """The table as it stands now."""
        table = TABLES[name]
        with plain_errors(self.settings.s3_endpoint):
            try:
                return self.catalog.load_table(table.identifier)
            except NoSuchTableError:
                self.create()
                return self.catalog.load_table(table.identifier)

    def read(
        self,
        name: str,
        *,
        days: tuple[date, date] | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
        between: Spans | None = None,
        restated: bool = False,
    ) -> pa.Table:
        """Rows of a table: whole days `[first, last]`, chosen columns, columns equal to a value or to one of several.

        `between`: instants of a column within `[first, last]`, None = no end. Files that by their statistics hold none are not opened: so what
        is wanted of a table of evidence does not cost its age.

        `restated`: only files that may hold a revision above 0 or a released row (whole days: the rows before them are in the same file).
        """
        table = TABLES[name]
        chosen = tuple(columns) if columns is not None else table.columns
        schema = arrow_schema(table, chosen)
        matching = [_equals(column, value) for column, value in (where or {}).items()]
        matching += [one for column, ends in (between or {}).items() for one in _inside(column, *ends)]
        with plain_errors(self.settings.s3_endpoint):
            files = self._files(name, days, between or {}, restated=restated)
            if not files:
                return empty(table, chosen)
            # pyiceberg plans; pyarrow reads, in half the time that pyiceberg's own reader takes for many small files
            form = dataset.ParquetFileFormat()
            parts = [form.make_fragment(path, filesystem=self.files, file_size=size) for path, size in files]
            source = dataset.FileSystemDataset(parts, arrow_schema(table), form, self.files)
            found = source.to_table(columns=list(chosen), filter=reduce(and_, matching) if matching else None)
        return _filled(found, schema)

    def _files(self, name: str, days: tuple[date, date] | None, between: Spans, *, restated: bool = False) -> list[tuple[str, int]]:
        """Data files of the current snapshot that hold these days: path as `self.files` wants it, and size (which saves asking for it)."""
        scan = self.iceberg(name).scan(selected_fields=("date",))
        if days is not None:
            scan = scan.filter(_span(days))
        if between:
            scan = scan.filter(_within(between))
        if restated:  # by the files' own statistics, without opening them
            scan = scan.filter(Or(GreaterThan("revision", 0), GreaterThanOrEqual("flags", RELEASED)))
        tasks = list(scan.plan_files())
        if any(task.delete_files for task in tasks):
            raise LakeUnreachable(
                f"Table {name} has row-level deletes written by another tool: compact it there first; this reader would miss them."
            )
        return [(task.file.file_path.removeprefix("s3://"), task.file.file_size_in_bytes) for task in tasks]

    def append(self, name: str, rows: pa.Table) -> None:
        """Add rows of evidence; for tables nobody replaces."""
        if rows.num_rows:
            self._commit(name, lambda table: table.append(rows.select(list(TABLES[name].columns)).cast(arrow_schema(TABLES[name]))))

    def replace(self, name: str, rows: pa.Table, days: tuple[date, date]) -> None:
        """Replace the days `[first, last]` of a table by `rows` in one commit. Rows outside the days raise ValueError."""
        declared: Table = TABLES[name]
        if rows.num_rows:
            found = pc.min_max(rows.column("date")).as_py()
            if found["min"] < days[0] or found["max"] > days[1]:
                raise ValueError(
                    f"rows of {name} reach from {found['min']} to {found['max']}, outside the days {days[0]}..{days[1]} to replace"
                )
        ordered = in_key_order(declared, rows)
        span = _span(days)

        def write(table: IcebergTable) -> None:
            if next(iter(table.scan(row_filter=span, selected_fields=("date",)).plan_files()), None) is None:
                if ordered.num_rows:
                    table.append(ordered)
            else:
                table.overwrite(ordered, overwrite_filter=span)

        self._commit(name, write)

    def uuid(self, name: str) -> str:
        """Identity of the table: another after it was dropped and made again."""
        return str(self.iceberg(name).metadata.table_uuid)

    def days(self, name: str) -> Counter[date]:
        """How many files each day of a table lies in."""
        found = Counter(task.file.partition[0] for task in self.iceberg(name).scan(selected_fields=("date",)).plan_files())
        return Counter({EPOCH_DAY + timedelta(days=day) if isinstance(day, int) else day: count for day, count in found.items()})

    def compact(self, name: str, files: int = 24, closed: date | None = None, most: int = 14) -> int:
        """Rewrite days that lie in many files (small appends of evidence) into one each, the newest `most` of them; returns how many days.

        Many: more than `files`, and of days before `closed`, to which nobody adds any more, more than one.
        """
        crowded = [day for day, count in self.days(name).items() if count > (1 if closed is not None and day < closed else files)]
        crowded = sorted(crowded, reverse=True)[:most]

        def write(day: date, table: IcebergTable) -> None:
            whole = EqualTo("date", day.isoformat())
            rows = table.scan(row_filter=whole).to_arrow()  # read inside the attempt: a faster writer's rows are read again, never lost
            table.overwrite(in_key_order(TABLES[name], rows), overwrite_filter=whole)

        for day in crowded:
            self._commit(name, partial(write, day))
        return len(crowded)

    def expire(self, name: str, before: datetime) -> int:
        """Forget snapshots made before an instant, except the one in force; returns how many. The table's rows do not change.

        Metadata name every snapshot and are read and written whole at each commit, so they would grow by every hour. Files that only forgotten
        snapshots held stay in the store (docs/adr/0022).
        """
        limit = int(before.timestamp() * 1000)
        metadata = self.iceberg(name).metadata
        old = [one for one in metadata.snapshots if one.timestamp_ms < limit and one.snapshot_id != metadata.current_snapshot_id]
        if old:
            self._commit(name, lambda table: table.maintenance.expire_snapshots().older_than(before).commit())
        return len(old)

    def _commit(self, name: str, write: Callable[[IcebergTable], None]) -> None:
        """Run one write on the table's newest state; a faster writer means one more try on top of what it wrote."""

        @retry(
            retry=retry_if_exception_type(CommitFailedException),
            stop=stop_after_attempt(COMMITS),
            wait=wait_random_exponential(0.1, 5),
            reraise=True,
        )
        def attempt() -> None:
            write(self.iceberg(name))

        with plain_errors(self.settings.s3_endpoint):
            try:
                attempt()
            except CommitFailedException as error:
                raise CommitConflict(
                    f"Table {name} was changed by others during {COMMITS} tries to commit: lower the number of writers (pool `lake`)."
                ) from error

    def _place(self, key: str) -> str:
        """Keys lie below the warehouse prefix, like the tables."""
        return f"{self.settings.warehouse}/{key}"

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream", *, once: bool = False) -> bool:
        """Store an object; with `once`, only if the key is free (content-addressed keys). True if it was written."""
        extra = {"IfNoneMatch": "*"} if once else {}
        try:
            with plain_errors(self.settings.s3_endpoint):
                self.s3.put_object(Bucket=self.settings.s3_bucket, Key=self._place(key), Body=body, ContentType=content_type, **extra)
        except LakeUnreachable as error:
            if once and isinstance(error.__cause__, ClientError) and error.__cause__.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                return False
            raise
        return True

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        with plain_errors(self.settings.s3_endpoint):
            body: bytes = self.s3.get_object(Bucket=self.settings.s3_bucket, Key=self._place(key))["Body"].read()
        return body

    def keys(self, prefix: str) -> dict[str, str]:
        """Keys below a prefix with their entity tags."""
        found: dict[str, str] = {}
        home = self._place("")
        with plain_errors(self.settings.s3_endpoint):
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.settings.s3_bucket, Prefix=home + prefix):
                found |= {item["Key"].removeprefix(home): item["ETag"].strip('"') for item in page.get("Contents", [])}
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; a key that is not there is no error."""
        with plain_errors(self.settings.s3_endpoint):
            for start in range(0, len(keys), 1000):
                batch = [{"Key": self._place(key)} for key in keys[start : start + 1000]]
                self.s3.delete_objects(Bucket=self.settings.s3_bucket, Delete={"Objects": batch, "Quiet": True})
