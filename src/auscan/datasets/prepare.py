"""Make the index of a data set, whatever its kind, and the report about it.

In: the data set's folder.  Out: an index: frames.parquet, tracks.parquet, report.md, report.json.
Not here: each data set's own rules (affwild2.py, disfa.py, bp4d.py, openface.py).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

from auscan.core.atomic_write import atomic_path
from auscan.core.errors import InputError
from auscan.datasets.affwild2 import AffWild2, MultiTask
from auscan.datasets.bp4d import Bp4d
from auscan.datasets.dataset_tree import DatasetTree, walk_tree
from auscan.datasets.disfa import Disfa
from auscan.datasets.find import DatasetFiles, Roots, Unused, find_dataset_files
from auscan.datasets.index import Track, open_index_writer
from auscan.datasets.openface import OpenFace
from auscan.datasets.report import as_markdown, summarise
from auscan.results.readers.toolkits import is_openface

FORMATS: Final[tuple[str, ...]] = ("affwild2", "mtl", "disfa", "bp4d", "openface")

Progress = Callable[[int, int | None], None]
"""Called with rows done, and None as their number is not known before."""


class _DatasetReader(Protocol):
    def tracks(self) -> Iterator[Track | None]:
        """Every track in turn; None for one that cannot be used."""


@dataclass(frozen=True)
class _DetectedDataset:
    """A data set that was found: what it is, what reads it, and where it puts what it cannot use."""

    dataset: str
    reader: _DatasetReader
    unused: list[Unused]


def prepare(
    root: Path,
    out: Path,
    dataset: str | None = None,
    roots: Roots | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Index the data set in `root` into the folder `out`; return what report.json says.

    `dataset` is one of FORMATS; None finds out. `roots` tells Aff-Wild2's pieces apart where they lie in
    several places.  Raises InputError if nothing usable is there; an index from before is then left as it is.
    """
    root, out = root.resolve(), out.resolve()
    detected = _detect_dataset(root, out, dataset, roots or Roots())
    metadata = {"dataset": detected.dataset, "root": str(root), "auscan_version": version("auscan")}
    rows = 0
    with open_index_writer(out, metadata) as writer:
        for track in detected.reader.tracks():
            if track is not None:
                writer.add(track)
                rows += len(track.numbers)
            if progress is not None:
                progress(rows, None)
        unused = [replace(item, path=_relative_to_root(item.path, root)) for item in detected.unused]
        if not writer.rows:
            raise InputError(f"{root} holds no track that can be used. {_first_reason(unused)}")
    summary = summarise(writer.rows, unused, {**metadata, "digest": writer.digest})
    _write_text(out / "report.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    _write_text(out / "report.md", as_markdown(summary))
    return summary


def _detect_dataset(root: Path, out: Path, dataset: str | None, roots: Roots) -> _DetectedDataset:
    if dataset not in (None, *FORMATS):
        raise InputError(f"{dataset!r} is no data set auscan knows. Use one of {', '.join(FORMATS)}.")
    if dataset in (None, "affwild2", "mtl"):
        files = find_dataset_files(root, roots, exclude=out)
        if dataset == "affwild2" or (dataset is None and _is_affwild2(files)):
            return _DetectedDataset("affwild2", AffWild2(root, files), files.unused)
        if dataset == "mtl" or "multitask" in files.texts.values():
            return _DetectedDataset("mtl", MultiTask(root, files), files.unused)
    tree = walk_tree(root, exclude=out)
    kind = dataset or _detect_tree_format(tree)
    readers: dict[str, Callable[[DatasetTree], _DatasetReader]] = {
        "disfa": Disfa,
        "bp4d": Bp4d,
        "openface": OpenFace,
    }
    return _DetectedDataset(kind, readers[kind](tree), tree.unused)


def _is_affwild2(files: DatasetFiles) -> bool:
    kinds = set(files.texts.values())
    # Many a text file could be a list or counts; only tracks beside it make it one.
    has_lists = bool(kinds & {"list", "counts"}) and bool(files.images)
    return bool(files.annotations) or "template" in kinds or has_lists


def _detect_tree_format(tree: DatasetTree) -> str:
    """Which of the neighbours is it?"""
    names = {folder.name.casefold() for folder in (tree.root, *tree.folders)}
    if "actionunit_labels" in names:
        return "disfa"
    if "au_occ" in names:
        return "bp4d"
    if any(path.suffix.lower() == ".csv" and is_openface(path) for path in tree.files):
        return "openface"
    raise InputError(
        f"{tree.root} holds no data set auscan knows. Looked for AU_Detection_Challenge, AU_Set, test lists "
        "(Aff-Wild2), files that begin image,valence,arousal (mtl), ActionUnit_Labels (DISFA), AU_OCC (BP4D) "
        "and CSV files of OpenFace. Name the kind with --format."
    )


def _relative_to_root(path: str, root: Path) -> str:
    """A path as the report gives it: from the data set's folder."""
    return path.removeprefix(f"{root}/")


def _first_reason(unused: list[Unused]) -> str:
    if not unused:
        return "Check that the archives are unpacked."
    first = unused[0]
    return f"{len(unused)} things could not be used, first {first.path}: {first.reason}"


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
