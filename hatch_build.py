"""Put the demo's portrait into the package while it is built.

Why: the repository holds no people's faces, and scikit-image, which brings this one (Eileen Collins, NASA,
public domain), is ten times larger than auscan. So it is there for the build and gone afterwards.
"""

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PortraitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Copies the picture beside the module that reads it; git ignores it there, the wheel does not."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel, an editable one too, or a source distribution is made."""
        import skimage.data

        portrait = Path(skimage.data.__file__).with_name("astronaut.png")
        shutil.copy(portrait, Path(self.root, "src", "auscan", "pipeline", portrait.name))
