"""Which inputs are to be done, under which names, and why.

All machines and all runs come to the same plan: names and shards depend on what an input is known by
(`MediaInput.key`), not on the order of a list or on where a disk is mounted.

In: inputs that were found, records of earlier runs.  Out: jobs, and the inputs whose results stand.
Not here: finding inputs (media/discover.py), doing them (detect_worker.py).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auscan.batch.fingerprint import size_and_mtime
from auscan.batch.jobs import Job
from auscan.batch.options import RunMetadata
from auscan.batch.output_folder import is_result, symlink_error
from auscan.core.errors import AuscanError, InputError
from auscan.media.discover import MediaInput, output_names
from auscan.results.manifest import ManifestRecord, folders, is_whole, latest


@dataclass(frozen=True)
class Shard:
    """One of `count` parts, the first is 1."""

    index: int
    count: int

    def contains(self, key: str) -> bool:
        """Whether an input belongs to this part.  It stays there when others come."""
        return int(hashlib.sha256(os.fsencode(key)).hexdigest(), 16) % self.count == self.index - 1

    @property
    def manifest(self) -> str:
        """Name of the manifest; shards may share a folder on a network disk, but no file."""
        return "manifest.jsonl" if self.count == 1 else f"manifest.{self.index}-of-{self.count}.jsonl"


UNSHARDED = Shard(1, 1)
"""Everything."""


def parse_shard(text: str) -> Shard:
    """'2/8': the second of eight.  Raises InputError for anything else."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"{text!r} is no shard. Give --shard 1/8 for the first of eight, up to 8/8.")
    return Shard(int(index), int(count))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does and what it leaves as it is."""

    jobs: Sequence[Job]
    unchanged: Sequence[Path]


def make_plan(
    inputs: Sequence[MediaInput],
    out: Path,
    records: Sequence[ManifestRecord],
    metadata: RunMetadata,
    shard: Shard,
    resume: bool,
) -> Plan:
    """The jobs of a shard, in the order of `inputs`; with `resume` without those whose result stands.

    records: of earlier runs into `out`, the oldest first
    """
    last = latest(records)
    jobs, unchanged = [], []
    names = output_names(inputs, folders(records))  # of all shards, or they would not agree
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
    """What is to be done for an input; None where its result stands."""
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
    """Why a result does not stand, whatever the input is now; None where it does."""
    if previous.status == "failed":
        return f"it failed ({previous.error_class})"
    changed = [name for name, value in metadata.config.items() if previous.config.get(name) != value]
    if changed:
        return f"other options ({', '.join(changed)})"
    if previous.model_sha256 != metadata.model_sha256:
        return "another model"
    before, now = previous.versions.get("auscan"), metadata.versions["auscan"]
    if before != now:
        return f"auscan {now} instead of {before}"
    return None if is_whole(out, previous) else "its result is gone or damaged"


def _blocking_error(folder: Path) -> InputError | None:
    """A folder that is no result of auscan is never replaced, nor is a link, wherever it leads."""
    if folder.is_symlink():
        return symlink_error(folder)
    if not folder.exists() or is_result(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return InputError(
        f"{folder} is in the way of a result and was not made by auscan. Give another folder with --out."
    )


def _size_and_mtime_or_none(path: Path) -> tuple[int, int] | None:
    try:
        return size_and_mtime(path)
    except AuscanError:
        return None  # the job will say what is wrong with it
