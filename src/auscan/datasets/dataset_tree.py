"""List the files of a data set once and look up videos and folders by name, for DISFA, BP4D and OpenFace.

Inputs: a folder.  Returns: its files and folders, and videos and folders by name.
See also: find.py (the same for Aff-Wild2).
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from auscan.core.errors import InputError
from auscan.datasets.find import Unused
from auscan.media.discover import IMAGE_SUFFIXES, VIDEO_SUFFIXES, natural_key


@dataclass
class DatasetTree:
    """Files and folders of a data set."""

    root: Path
    """Folder of the data set."""
    files: list[Path] = field(default_factory=list)
    """All files except pictures, which are too many to list."""
    folders: list[Path] = field(default_factory=list)
    """All folders below `root`."""
    used: set[Path] = field(default_factory=set)
    """Files that a track uses."""
    unused: list[Unused] = field(default_factory=list)
    """Files and folders that cannot be used, with reasons."""

    def video(self, name: str, inside: str | None = None, substring: bool = False) -> Path | None:
        """Return the video named `name` below a folder named `inside`, or None.

        substring: accept any video whose name contains `name`.
        If several videos match, one of a left camera is preferred.
        """
        wanted = name.casefold()
        found = [
            path
            for path in self.files
            if path.suffix.lower() in VIDEO_SUFFIXES
            and (wanted in path.stem.casefold() if substring else wanted == path.stem.casefold())
            and (inside is None or inside in path.parts)
        ]
        video = min(found, key=lambda p: "left" not in p.stem.casefold(), default=None)
        self.used.update([video] if video else [])
        return video

    def folder(self, name: str, inside: str | None = None) -> Path | None:
        """Return the folder named `name` below a folder named `inside`, or None."""
        return next(self._folders(name, inside), None)

    def picture_folder(self, name: str, inside: str | None = None) -> Path | None:
        """Return the folder named `name` that holds pictures; label folders often have the same names."""
        return next(filter(_has_pictures, self._folders(name, inside)), None)

    def unused_files(self) -> list[Unused]:
        """Return the files that no track uses, counted by folder and suffix."""
        others = Counter((path.parent, path.suffix) for path in self.files if path not in self.used)
        return [Unused(f"{folder}/*{end}", f"{n} files not needed") for (folder, end), n in others.items()]

    def _folders(self, name: str, inside: str | None) -> Iterator[Path]:
        for path in self.folders:
            if path.name.casefold() == name.casefold() and (inside is None or inside in path.parts):
                yield path


def walk_tree(root: Path, exclude: Path | None = None) -> DatasetTree:
    """List the files and folders below `root`, without hidden ones and `exclude`.

    Raises InputError if `root` is not a folder.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder. Give the folder in which the data set was unpacked.")
    tree = DatasetTree(root)
    errors: list[OSError] = []
    for folder, subfolders, files in os.walk(root, onerror=errors.append):
        folder_path = Path(folder)
        subfolders[:] = sorted(n for n in subfolders if n[0] != "." and folder_path / n != exclude)
        tree.folders += [folder_path / name for name in subfolders]
        shown = [name for name in files if name[0] != "."]
        tree.files += [folder_path / n for n in shown if Path(n).suffix.lower() not in IMAGE_SUFFIXES]
    tree.unused += [Unused(str(e.filename), f"cannot be read ({e.strerror})") for e in errors]
    tree.files.sort(key=lambda path: natural_key(str(path)))
    return tree


def _has_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(tuple(IMAGE_SUFFIXES)) for entry in entries)
