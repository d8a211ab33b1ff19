"""Merge results into one data set, and query it in SQL.

    DATASET/inputs.parquet             one row per input, including failed inputs
    DATASET/frames/part-00000.parquet  the tables of all results, with a column `input`
    DATASET/events/part-00000.parquet  the events of all results, with a column `input`

A data set is a few large Parquet files for DuckDB, pandas or Spark. Rows are ordered by input, so that a
query about one input reads a small part of one file. The same results yield the same bytes, however they were
distributed over shards and machines; values that differ between runs, such as host and seconds, are omitted.

Inputs: folders with results and manifests of `auscan detect`; for queries a data set and SQL over the tables
inputs, frames and events.
Returns: a data set; column names and rows.
See also: results/manifest.py (records), cli/dataset.py (`auscan merge`, `auscan query`).
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv as pa_csv  # type: ignore[import-untyped]
import pyarrow.dataset as pa_dataset  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from auscan.core.aus import ACTION_UNITS, AFFWILD2_AUS
from auscan.core.environment import display_path
from auscan.core.errors import InputError, OutputError
from auscan.results.events import EVENT_COLUMNS, EVENTS_FILE
from auscan.results.manifest import ManifestRecord, is_whole, latest, read_records
from auscan.results.result import SUMMARY_FILE
from auscan.results.table import TABLE_FILE, table_columns

FRAMES, EVENTS, INPUTS_FILE = "frames", "events", "inputs.parquet"
"""Names within a data set."""

GROUP_ROWS: Final[int] = 2**17
"""Rows of a row group, the unit that a query reads or skips."""
READ_ROWS: Final[int] = 2**14
"""Rows of a result that are read at once; bounds memory for inputs of any length."""
PART_ROWS: Final[int] = 2**22
"""Rows of a Parquet file, about half a gigabyte of frames."""

_COLUMN_TYPES: Final = {
    **{name: pa.int64() for name in ("frame", "face_id", "onset_frame", "apex_frame", "offset_frame")},
    **{name: pa.float64() for name in ("timestamp", "onset", "apex", "offset", "duration")},
    **{name: pa.string() for name in ("input", "reason", "AU")},
    "success": pa.int8(),
}
"""Types of columns; all others are float32."""

_INPUTS_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("input", "status", "error_class", "sha256")),
        ("size", pa.int64()),
        *((name, pa.string()) for name in ("model", "model_sha256", "config", "auscan")),
        *((name, pa.int64()) for name in ("rows", "frames", "faces")),
        ("duration_s", pa.float64()),
        ("audio", pa.bool_()),
    ]
)
"""Schema of inputs.parquet; input: key of the input; config: options as JSON; auscan: version."""


@dataclass(frozen=True)
class MergeSource:
    """Input of a data set."""

    results: Path
    """Folder with the result and its manifest."""
    record: ManifestRecord
    """Manifest record of the input."""

    @property
    def folder(self) -> Path:
        """Folder of the result; its name was checked when the manifest was read."""
        return self.results / (self.record.folder or "")


def merge(results: Sequence[Path], out: Path, progress: Callable[[int, int], None]) -> list[MergeSource]:
    """Write the data set of all results in `results` to `out`, replacing an earlier one; return its inputs.

    progress: called with the number of merged results and the total number

    Raises InputError if a folder has no manifest, a result is damaged, or two folders have different files of
    the same key; OutputError if the data set cannot be written.
    """
    sources = collect_sources(results)
    if out.exists() and not (out / INPUTS_FILE).exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists and is not a data set of auscan. Give another folder with --out.")
    temporary = out.with_name(f".{out.name}.{uuid4().hex[:8]}.part")
    try:
        temporary.mkdir(parents=True)
        _write(sources, temporary, progress)
        if out.exists():
            out.rename(temporary / "replaced")
        (temporary / "whole").rename(out)
    except OSError as error:
        raise OutputError(f"The data set cannot be written to {out} ({error.strerror}).") from error
    finally:
        if (temporary / "replaced").exists() and not out.exists():
            (temporary / "replaced").rename(out)
        shutil.rmtree(temporary, ignore_errors=True)
    return sources


def collect_sources(results: Sequence[Path]) -> list[MergeSource]:
    """Return the current record of each input, ordered by key. Raise InputError as `merge`."""
    by_key: dict[str, MergeSource] = {}
    for folder in results:
        records = latest(read_records(folder))
        if not records:
            raise InputError(f"{folder} has no manifest.jsonl. Give an output folder of `auscan detect`.")
        for source in (MergeSource(folder, record) for record in records.values()):
            existing = by_key.get(source.record.key)
            by_key[source.record.key] = source if existing is None else _preferred(existing, source)
    sources = [by_key[key] for key in sorted(by_key)]
    for source in sources:
        if source.record.status == "done" and not is_whole(source.results, source.record):
            raise InputError(
                f"{source.folder} is incomplete: files are missing or differ in size from the manifest. "
                "Run auscan detect with --resume first."
            )
    return sources


def _preferred(one: MergeSource, other: MergeSource) -> MergeSource:
    """Choose between two records of an input: prefer a done one, then the later one."""
    done = [source for source in (one, other) if source.record.status == "done"]
    if len(done) == 2 and one.record.sha256 != other.record.sha256:
        raise InputError(
            f"{one.results} and {other.results} both have a result of {one.record.key}, but of different "
            "files. Merge them into separate data sets, or run auscan detect on a folder above both inputs."
        )
    return max(done or (one, other), key=lambda source: source.record.ended)


def _write(sources: Sequence[MergeSource], folder: Path, progress: Callable[[int, int], None]) -> None:
    done = [source for source in sources if source.record.status == "done"]
    columns = _all_columns(done)
    new_dataset = folder / "whole"
    new_dataset.mkdir()
    inputs: list[dict[str, Any]] = []
    with (
        _PartWriter(new_dataset / FRAMES, _schema(columns)) as frames,
        _PartWriter(new_dataset / EVENTS, _schema(EVENT_COLUMNS)) as events,
    ):
        for source in sources:
            inputs.append(_input_row(source))
            if source.record.status == "done":
                frames.add(source.record.key, _read_table(source.folder / TABLE_FILE))
                events.add(source.record.key, _read_events(source.folder / EVENTS_FILE))
            progress(len(inputs), len(sources))
    pq.write_table(pa.Table.from_pylist(inputs, _INPUTS_SCHEMA), new_dataset / INPUTS_FILE)


def _all_columns(done: Sequence[MergeSource]) -> list[str]:
    """Return the columns of all results. One with other AUs than another gets empty columns for them."""
    stored = {name for source in done for name in pq.read_schema(source.folder / TABLE_FILE).names}
    au_names = [name for name in ACTION_UNITS if name in stored] or list(AFFWILD2_AUS)
    intensity, baseline = (any(f"{name}_{kind}" in stored for name in au_names) for kind in "rb")
    return table_columns(au_names, intensity, baseline)


def _schema(columns: Iterable[str]) -> Any:
    return pa.schema([(name, _COLUMN_TYPES.get(name, pa.float32())) for name in ("input", *columns)])


def _read_table(file: Path) -> Iterator[Any]:
    """Yield the rows of an aus.parquet in batches."""
    with pq.ParquetFile(file) as stored:
        yield from stored.iter_batches(READ_ROWS)


def _read_events(file: Path) -> Iterator[Any]:
    types = {name: _COLUMN_TYPES.get(name, pa.float32()) for name in EVENT_COLUMNS}
    options = pa_csv.ConvertOptions(column_types=types, include_columns=EVENT_COLUMNS)
    with pa_csv.open_csv(file, convert_options=options) as stored:
        yield from stored


def _input_row(source: MergeSource) -> dict[str, Any]:
    """Return the row of an input in inputs.parquet, without values that differ between runs."""
    record = source.record
    row: dict[str, Any] = {
        "input": display_path(record.key),
        "status": record.status,
        "error_class": record.error_class,
        "sha256": record.sha256,
        "size": record.size,
        "model": record.model,
        "model_sha256": record.model_sha256,
        "config": json.dumps(dict(record.config), sort_keys=True),
        "auscan": record.versions.get("auscan"),
    }
    if record.status == "failed":
        return row
    summary = json.loads((source.folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    numbers = {name: summary[name] for name in ("rows", "frames", "faces", "duration_s")}
    return {**row, **numbers, "audio": summary["modalities"]["audio"]}


class _PartWriter:
    """Writer of a folder of Parquet files, each of about PART_ROWS rows; writes at least one file."""

    def __init__(self, folder: Path, schema: Any) -> None:
        """Create the writer; `__enter__` creates the folder."""
        self._folder, self._schema = folder, schema
        self._pending: list[Any] = []
        self._writer: Any = None
        self._rows = self._part_count = 0

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._open_part()
        return self

    def add(self, key: str, batches: Iterable[Any]) -> None:
        """Append the rows of one input."""
        for batch in batches:
            columns = {
                name: batch[name] if name in batch.schema.names else pa.nulls(len(batch))
                for name in self._schema.names[1:]
            }
            table = pa.table({"input": pa.repeat(key, len(batch)), **columns}).cast(self._schema)
            self._pending.append(table)
            if sum(map(len, self._pending)) >= GROUP_ROWS:
                self._flush()

    def _flush(self) -> None:
        if self._rows >= PART_ROWS:
            self._writer.close()
            self._open_part()
        table = pa.concat_tables(self._pending)
        self._rows += len(table)
        self._writer.write_table(table, row_group_size=GROUP_ROWS)
        self._pending = []

    def _open_part(self) -> None:
        file = self._folder / f"part-{self._part_count:05}.parquet"
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._part_count, self._rows = self._part_count + 1, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending and error is None:
            self._flush()
        self._writer.close()


TABLES: Final = {"inputs": "inputs.parquet", "frames": "frames/*.parquet", "events": "events/*.parquet"}

"""File patterns of the tables of a data set, by table name."""

_FETCH_ROWS: Final[int] = 4096
"""Rows fetched from DuckDB at once."""


@dataclass(frozen=True)
class QueryResult:
    """Result of a query."""

    columns: tuple[str, ...]
    """Names of the columns."""
    rows: Iterator[tuple[Any, ...]]
    """Rows, fetched lazily."""


def query(dataset: Path, sql: str, *, allow_external: bool = False) -> QueryResult:
    """Run a SQL query over the tables inputs, frames and events.

    The query can neither read nor write other files, nor reach the network, unless `allow_external`.

    Raises InputError if `dataset` is not a data set, or DuckDB cannot run the query.
    """
    if not (dataset / TABLES["inputs"]).is_file():
        raise InputError(f"{dataset} is not a data set. Give a folder written by `auscan merge`.")
    connection = duckdb.connect()
    connection.execute("SET python_enable_replacements = false")  # names of Python variables are no tables
    if not allow_external:
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    try:
        for name, files in TABLES.items():
            connection.register(name, pa_dataset.dataset(sorted(map(str, dataset.glob(files)))))
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{dataset} cannot be read ({reason}). Run `auscan merge` again.") from error
    with _duckdb_errors():
        connection.execute(sql)
    if connection.description is None:
        raise InputError("The SQL has no statement. Give one, e.g. 'SELECT * FROM inputs'.")
    return QueryResult(tuple(column[0] for column in connection.description), _rows(connection))


@contextmanager
def _duckdb_errors() -> Iterator[None]:
    """Raise InputError for an error of DuckDB or of a damaged file that it reads."""
    try:
        yield
    except duckdb.PermissionException as error:
        raise InputError(
            f"The query needs other files or the network ({' '.join(str(error).split())}). "
            "If you trust it, add --allow-external."
        ) from error
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise InputError(f"DuckDB cannot run the query: {' '.join(str(error).split())}") from error


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    with _duckdb_errors():
        while rows := connection.fetchmany(_FETCH_ROWS):
            yield from rows
