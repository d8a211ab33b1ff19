"""Add two files to a build: the portrait of the demo, and the commit that the build was made from.

The repository holds no people's faces, and scikit-image, which brings the portrait (Eileen Collins, NASA,
public domain), is ten times larger than auscan. So the portrait is copied at build time.

The commit becomes part of `auscan.__version__` (src/auscan/core/environment.py), so that every result names
the code it was made with. A build outside a git checkout, and an editable one, whose code may change after
the build, name no commit.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildFilesHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling before and after it makes a wheel or a source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Copy the portrait beside the module that reads it, and add `commit.txt` to the build.

        version: "editable" for an editable install
        """
        import skimage.data

        portrait = Path(skimage.data.__file__).with_name("astronaut.png")
        shutil.copy(portrait, Path(self.root, "src", "auscan", "pipeline", portrait.name))
        self._temporary = Path(tempfile.mkdtemp())
        commit = "" if version == "editable" else self._commit()
        if commit:
            file = self._temporary / "commit.txt"
            file.write_text(commit + "\n", encoding="utf-8")
            package = "src/auscan" if self.target_name == "sdist" else "auscan"
            build_data["force_include"][str(file)] = f"{package}/core/{file.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary file."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _commit(self) -> str:
        """Return the short hash of HEAD, with ".dirty" where tracked files differ; "" outside a checkout."""
        if not Path(self.root, ".git").exists():
            return ""  # an unpacked source distribution, perhaps inside another repository
        try:
            commit = self._git("rev-parse", "--short=12", "HEAD")
            changed = self._git("status", "--porcelain", "--untracked-files=no")
        except (OSError, subprocess.CalledProcessError):
            return ""
        return f"{commit}.dirty" if changed else commit

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()
