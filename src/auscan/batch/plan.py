"""Which inputs are to be done, under which names, and why.

All machines and all runs come to the same plan: names and shards depend on what an input is known by
(`MediaInput.key`), not on the order of a list or on where a disk is mounted.

In: inputs that were found, entries of earlier runs.  Out: jobs, and the inputs whose results stand.
Not here: finding inputs (media/discover.py), doing them (detect.py).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auscan.batch.fingerprint import state_of
from auscan.batch.jobs import Job
from auscan.batch.options import About
from auscan.batch.output_folder import a_link, is_result
from auscan.core.errors import AuscanError, InputError
from auscan.media.discover import MediaInput, output_names
from auscan.results.manifest import Entry, folders, is_whole, latest


@dataclass(frozen=True)
class Shard:
    """One of `count` parts, the first is 1."""

    index: int
    count: int

    def holds(self, key: str) -> bool:
        """Whether an input belongs to this part.  It stays there when others come."""
        return int(hashlib.sha256(os.fsencode(key)).hexdigest(), 16) % self.count == self.index - 1

    @property
    def manifest(self) -> str:
        """Name of the manifest; shards may share a folder on a network disk, but no file."""
        return "manifest.jsonl" if self.count == 1 else f"manifest.{self.index}-of-{self.count}.jsonl"


ALL = Shard(1, 1)
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
    found: Sequence[MediaInput], out: Path, entries: Sequence[Entry], about: About, shard: Shard, resume: bool
) -> Plan:
    """The jobs of a shard, in the order of `found`; with `resume` without those whose result stands.

    entries: of earlier runs into `out`, the oldest first
    """
    last = latest(entries)
    jobs, unchanged = [], []
    names = output_names(found, folders(entries))  # of all shards, or they would not agree
    for item, name in zip(found, names, strict=True):
        if not shard.holds(item.key):
            continue
        job = _job(item, name, out, last.get(item.key) if resume else None, about)
        if job is None:
            unchanged.append(item.path)
        else:
            jobs.append(job)
    return Plan(jobs=jobs, unchanged=unchanged)


def _job(item: MediaInput, name: str, out: Path, known: Entry | None, about: About) -> Job | None:
    """What is to be done for an input; None where its result stands."""
    why = "new" if known is None else _why_again(known, out, about)
    if item.error is None and known is not None and why is None:
        if _state(item.path) == (known.size, known.mtime_ns):
            return None
        error = _in_the_way(out / name)
        return Job(
            path=item.path, key=item.key, name=name, error=error, known=known, why="its size or time changed"
        )
    error = item.error or _in_the_way(out / name)
    last = known if known is not None and known.status == "failed" else None
    return Job(path=item.path, key=item.key, name=name, error=error, known=last, why=why or "new")


def _why_again(known: Entry, out: Path, about: About) -> str | None:
    """Why a result does not stand, whatever the input is now; None where it does."""
    if known.status == "failed":
        return f"it failed ({known.error_class})"
    changed = [name for name, value in about.config.items() if known.config.get(name) != value]
    if changed:
        return f"other options ({', '.join(changed)})"
    if known.model_sha256 != about.model_sha256:
        return "another model"
    before, now = known.versions.get("auscan"), about.versions["auscan"]
    if before != now:
        return f"auscan {now} instead of {before}"
    return None if is_whole(out, known) else "its result is gone or damaged"


def _in_the_way(folder: Path) -> InputError | None:
    """A folder that is no result of auscan is never replaced, nor is a link, wherever it leads."""
    if folder.is_symlink():
        return a_link(folder)
    if not folder.exists() or is_result(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return InputError(
        f"{folder} is in the way of a result and was not made by auscan. Give another folder with --out."
    )


def _state(path: Path) -> tuple[int, int] | None:
    try:
        return state_of(path)
    except AuscanError:
        return None  # the job will say what is wrong with it
