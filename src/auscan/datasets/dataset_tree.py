"""What the readers of DISFA, BP4D and OpenFace share: a folder walked once, and look-ups in it.

In: a folder.  Out: its files, its videos and folders by name.
Not here: Aff-Wild2, whose files are found by find.py.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from auscan.core.errors import InputError
from auscan.datasets.find import Unused
from auscan.media.discover import VIDEO_SUFFIXES
from auscan.media.images import IMAGE_SUFFIXES, natural_key


@dataclass
class DatasetTree:
    """A data set's folder; pictures are not among `files`, there are too many."""

    root: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)
    unused: list[Unused] = field(default_factory=list)

    def video(self, name: str, inside: str | None = None, substring: bool = False) -> Path | None:
        """The video called `name` (`substring`: with `name` in its name), below a folder called `inside`.

        Of several the one of a left camera.
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
        """The folder of that name, below one called `inside`."""
        return next(self._folders(name, inside), None)

    def picture_folder(self, name: str, inside: str | None = None) -> Path | None:
        """The folder of that name with pictures in it: labels often have folders of the same names."""
        return next(filter(_has_pictures, self._folders(name, inside)), None)

    def unused_files(self) -> list[Unused]:
        """Files that nothing was made of, counted by folder and suffix."""
        others = Counter((path.parent, path.suffix) for path in self.files if path not in self.used)
        return [Unused(f"{folder}/*{end}", f"{n} files not needed") for (folder, end), n in others.items()]

    def _folders(self, name: str, inside: str | None) -> Iterator[Path]:
        for path in self.folders:
            if path.name.casefold() == name.casefold() and (inside is None or inside in path.parts):
                yield path


def walk_tree(root: Path, exclude: Path | None = None) -> DatasetTree:
    """Go through a folder once; hidden things and `exclude` are passed over.

    Raises InputError if it is no folder.
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
