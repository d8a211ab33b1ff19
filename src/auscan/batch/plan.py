"""Plan a run: decide which inputs to process, and name their result folders.

Plans agree between machines and runs: names and shards depend on the key of an input (`MediaInput.key`), not
on the order of inputs or on the mount point of a disk.

Inputs: inputs found, records of earlier runs. Returns: jobs, and the inputs whose results are current.
See also: media/discover.py (finding inputs), jobs.py (processing).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auscan.batch.jobs import Job, RunMetadata, size_and_mtime
from auscan.batch.output_folder import is_result, symlink_error
from auscan.core.errors import AuscanError, InputError
from auscan.media.discover import MediaInput, output_names
from auscan.results.manifest import ManifestRecord, folders, is_whole, latest


@dataclass(frozen=True)
class Shard:
    """Part of the inputs, chosen by a hash of their keys."""

    index: int
    """Number of the shard, from 1."""
    count: int
    """Number of shards."""

    def contains(self, key: str) -> bool:
        """Return whether an input belongs to this shard; independent of the other inputs."""
        return int(hashlib.sha256(os.fsencode(key)).hexdigest(), 16) % self.count == self.index - 1

    @property
    def manifest(self) -> str:
        """File name of the shard's manifest; shards may share a folder on a network disk, but not a file."""
        return "manifest.jsonl" if self.count == 1 else f"manifest.{self.index}-of-{self.count}.jsonl"


UNSHARDED = Shard(1, 1)
"""Shard that contains all inputs."""


def parse_shard(text: str) -> Shard:
    """Parse '2/8' as the second of eight shards. Raise InputError if `text` has another form."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"{text!r} is not a shard. Give --shard 1/8 for the first of eight, up to 8/8.")
    return Shard(int(index), int(count))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Jobs of a run."""

    jobs: Sequence[Job]
    """Inputs to process."""
    unchanged: Sequence[Path]
    """Inputs whose stored results are current."""


def make_plan(
    inputs: Sequence[MediaInput],
    out: Path,
    records: Sequence[ManifestRecord],
    metadata: RunMetadata,
    shard: Shard,
    resume: bool,
) -> Plan:
    """Plan the jobs of a shard, in the order of `inputs`; with `resume`, omit inputs with a current result.

    records: records of earlier runs into `out`, oldest first
    """
    last = latest(records)
    jobs, unchanged = [], []
    names = output_names(inputs, folders(records))  # from the inputs of all shards, so that shards agree
    for item, name in zip(inputs, names, strict=True):
        if not shard.contains(item.key):
            continue
        job = _plan_job(item, name, out, last.get(item.key) if resume else None, metadata)
        if job is None:
            unchanged.append(item.path)
        else:
            jobs.append(job)
    return Plan(jobs=jobs, unchanged=unchanged)


def _plan_job(
    item: MediaInput, name: str, out: Path, previous: ManifestRecord | None, metadata: RunMetadata
) -> Job | None:
    """Return the job of an input; None if its result is current."""
    reason = "new" if previous is None else _stale_reason(previous, out, metadata)
    if item.error is None and previous is not None and reason is None:
        if _size_and_mtime_or_none(item.path) == (previous.size, previous.mtime_ns):
            return None
        error = _blocking_error(out / name)
        return Job(
            path=item.path,
            key=item.key,
            name=name,
            error=error,
            previous=previous,
            reason="its size or time changed",
        )
    error = item.error or _blocking_error(out / name)
    last = previous if previous is not None and previous.status == "failed" else None
    return Job(path=item.path, key=item.key, name=name, error=error, previous=last, reason=reason or "new")


def _stale_reason(previous: ManifestRecord, out: Path, metadata: RunMetadata) -> str | None:
    """Return the reason why a result is stale, apart from a changed input; None if there is none."""
    if previous.status == "failed":
        return f"it failed ({previous.error_class})"
    changed = [name for name, value in metadata.config.items() if previous.config.get(name) != value]
    if changed:
        return f"its options changed ({', '.join(changed)})"
    if previous.model_sha256 != metadata.model_sha256:
        return "the model changed"
    before, now = previous.versions.get("auscan"), metadata.versions["auscan"]
    if before != now:
        return f"auscan changed from {before} to {now}"
    return None if is_whole(out, previous) else "its result is missing or damaged"


def _blocking_error(folder: Path) -> InputError | None:
    """Return an error if `folder` is a symbolic link or not a result of auscan, else None."""
    if folder.is_symlink():
        return symlink_error(folder)
    if not folder.exists() or is_result(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return InputError(
        f"{folder} is not a result of auscan and is not replaced. Give another folder with --out."
    )


def _size_and_mtime_or_none(path: Path) -> tuple[int, int] | None:
    try:
        return size_and_mtime(path)
    except AuscanError:
        return None  # the job reports the error
