"""Detect the format of a data set and write its index and report.

Inputs: the data set's folder.  Returns: an index with frames.parquet, tracks.parquet, report.md, report.json.
See also: affwild2.py, disfa.py, bp4d.py, openface.py, own_labels.py (rules of each data set),
synth/truth.py (ground truth of synthetic data).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from auscan.core.environment import VERSION, atomic_path
from auscan.core.errors import InputError
from auscan.datasets.affwild2 import AffWild2, MultiTask
from auscan.datasets.bp4d import Bp4d
from auscan.datasets.covers import read_covers
from auscan.datasets.dataset_tree import DatasetTree, walk_tree
from auscan.datasets.disfa import Disfa
from auscan.datasets.find import DatasetFiles, Roots, Unused, find_dataset_files
from auscan.datasets.index import Track, open_index_writer
from auscan.datasets.openface import OpenFace
from auscan.datasets.own_labels import OwnLabels, is_own
from auscan.datasets.report import as_markdown, summarise
from auscan.datasets.synth.truth import SyntheticTruth
from auscan.results.readers.toolkits import is_openface

FORMATS: Final[tuple[str, ...]] = ("affwild2", "mtl", "disfa", "bp4d", "openface", "own", "synth")
"""Supported data set formats."""

Progress = Callable[[int, int | None], None]
"""Function called with the rows done and None, because the total is not known in advance."""


class _DatasetReader(Protocol):
    """Reader of a data set."""

    @property
    def au_names(self) -> tuple[str, ...]:
        """AUs of the tracks."""

    def tracks(self) -> Iterator[Track | None]:
        """Yield each track, or None for an unusable one."""


@dataclass(frozen=True)
class CoderOptions:
    """Options of a folder of one's own labels."""

    names: Path | None = None
    """File with the AUs of tiers, columns and codes (coder_names.py)."""
    coder: str | None = None
    """Coder whose coding is the label, or 'majority'; None if each video has one."""


@dataclass(frozen=True)
class _DetectedDataset:
    """Data set whose format is known."""

    dataset: str
    """Format, one of FORMATS."""
    reader: _DatasetReader
    """Reader of its tracks."""
    unused: list[Unused]
    """Files that the reader cannot use; complete after the last track."""
    has_intensities: bool = False
    """Whether the tracks have intensities."""
    codings: list[dict[str, Any]] = field(default_factory=list)
    """Who coded what; complete after the last track."""


def prepare(
    root: Path,
    out: Path,
    dataset: str | None = None,
    roots: Roots | None = None,
    progress: Progress | None = None,
    coders: CoderOptions | None = None,
) -> dict[str, Any]:
    """Write the index of the data set in `root` into the folder `out`; return the contents of report.json.

    dataset: one of FORMATS; None detects it.
    roots: folders of Aff-Wild2's files, if they are in several places, or of the videos of one's own labels.
    progress: called after each track.  coders: options for one's own labels.
    Raises InputError if the folder has no usable track; an existing index then stays unchanged.
    """
    root, out = root.resolve(), out.resolve()
    detected = _detect_dataset(root, out, dataset, roots or Roots(), coders or CoderOptions())
    au_names, intensities = detected.reader.au_names, detected.has_intensities
    metadata: dict[str, Any] = {"dataset": detected.dataset, "root": str(root), "auscan_version": VERSION}
    rows, covers = 0, None if detected.dataset == "own" else read_covers(root)
    with open_index_writer(out, metadata, covers is not None, au_names, intensities) as writer:
        for track in detected.reader.tracks():
            if track is not None:
                writer.add(track if covers is None else covers.added_to(track))
                rows += len(track.numbers)
            if progress is not None:
                progress(rows, None)
        unused = [replace(item, path=_relative_to_root(item.path, root)) for item in detected.unused]
        if not writer.rows:
            raise InputError(f"{root} does not hold a usable track. {_first_reason(unused)}")
    metadata = {**metadata, "au_names": list(au_names), "digest": writer.digest}
    summary = summarise(writer.rows, unused, metadata, detected.codings)
    _write_text(out / "report.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    _write_text(out / "report.md", as_markdown(summary))
    return summary


def _detect_dataset(
    root: Path, out: Path, dataset: str | None, roots: Roots, coders: CoderOptions
) -> _DetectedDataset:
    if dataset not in (None, *FORMATS):
        raise InputError(f"{dataset!r} is not a supported data set. Use one of {', '.join(FORMATS)}.")
    if coders != CoderOptions():
        if dataset not in (None, "own"):
            raise InputError(f"--names and --coder are for own labels, not for --format {dataset}.")
        dataset = "own"
    if dataset in (None, "affwild2", "mtl"):
        files = find_dataset_files(root, roots, exclude=out)
        if dataset == "affwild2" or (dataset is None and _is_affwild2(files)):
            return _DetectedDataset("affwild2", AffWild2(root, files), files.unused)
        if dataset == "mtl" or "multitask" in files.texts.values():
            return _DetectedDataset("mtl", MultiTask(root, files), files.unused)
    tree = walk_tree(root, exclude=out)
    kind = dataset or _detect_tree_format(tree, roots.videos)
    if kind == "own":
        own = OwnLabels(tree, roots.videos, coders.names, coders.coder)
        return _DetectedDataset(kind, own, tree.unused, codings=own.codings)
    readers: dict[str, Callable[[DatasetTree], _DatasetReader]] = {
        "disfa": Disfa,
        "bp4d": Bp4d,
        "openface": OpenFace,
        "synth": SyntheticTruth,
    }
    has_intensities = kind in ("disfa", "synth")
    return _DetectedDataset(kind, readers[kind](tree), tree.unused, has_intensities=has_intensities)


def _is_affwild2(files: DatasetFiles) -> bool:
    kinds = set(files.texts.values())
    # Any text file may have the form of a list or of counts, so picture folders are required as well.
    has_lists = bool(kinds & {"list", "counts"}) and bool(files.images)
    return bool(files.annotations) or "template" in kinds or has_lists


def _detect_tree_format(tree: DatasetTree, videos: Sequence[Path]) -> str:
    """Return the format of a data set other than Aff-Wild2.  Raises InputError if none is recognised."""
    names = {folder.name.casefold() for folder in (tree.root, *tree.folders)}
    if "actionunit_labels" in names:
        return "disfa"
    if "au_occ" in names:
        return "bp4d"
    if any(path.suffix.lower() == ".csv" and is_openface(path) for path in tree.files):
        return "openface"
    if is_own(tree, videos):
        return "own"
    raise InputError(
        f"{tree.root} does not hold a supported data set. auscan searched for AU_Detection_Challenge, "
        "AU_Set, test lists (Aff-Wild2), files that begin with image,valence,arousal (mtl), "
        "ActionUnit_Labels (DISFA), AU_OCC (BP4D), CSV files of OpenFace, and videos beside "
        "coders' files (.eaf, .TextGrid, .opf, .csv, .tsv). Set the format with --format."
    )


def _relative_to_root(path: str, root: Path) -> str:
    """Return a path relative to the data set's folder."""
    return path.removeprefix(f"{root}/")


def _first_reason(unused: list[Unused]) -> str:
    if not unused:
        return "Check that the archives are unpacked."
    first = unused[0]
    return f"{len(unused)} files or folders could not be used, the first is {first.path}: {first.reason}"


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
