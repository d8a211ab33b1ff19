"""What a batch makes of every input, as plain values that can be sent to another process.

In: the options of a command.  Out: what goes into every line of the manifest, and the command for one input.
Not here: which inputs (plan.py).
"""

import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from auscan.core.checkpoint_folder import find_checkpoint, hash_model, read_config
from auscan.core.config import CheckpointConfig, Options, at_point
from auscan.core.environment import versions


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make of each input, and with what."""

    model: str = "nano"
    """A shipped model or a checkpoint folder."""
    backend: Literal["auto", "torch", "onnx"] = "auto"
    device: str = "auto"
    threads: int | None = None
    """Of each process; changes nothing of what is written."""
    options: Options = field(default_factory=Options)

    def check(self) -> CheckpointConfig:
        """What can be told without loading the model; the checkpoint's config.

        Raises InputError for a baseline or an operating point that there is not, CheckpointError for the
        model.
        """
        from auscan.results.baseline import parse_baseline  # pandas is slow to load

        parse_baseline(self.options.baseline)
        return at_point(read_config(find_checkpoint(self.model)), self.options.operating_point)

    def config(self) -> dict[str, Any]:
        """All options that change what is written, by name."""
        return {"backend": self.backend, "device": self.device, **asdict(self.options)}

    def command(self, source: Path, out: Path) -> str:
        """What to type to get the result of one input again."""
        words = ["auscan", "detect", str(source), "--out", str(out)]
        usual = Request()
        for name in ("model", "backend", "device"):
            words += _option(name, getattr(self, name), getattr(usual, name))
        for each in fields(Options):
            name = "as_video" if each.name == "as_video_hz" else each.name
            words += _option(name, getattr(self.options, each.name), each.default)
        return shlex.join(words)


def _option(name: str, value: object, usual: object) -> list[str]:
    """The words for an option; none where it has its usual value."""
    if value == usual:
        return []
    word = f"--{name.replace('_', '-')}"
    if isinstance(value, float):
        return [word, f"{value:g}"]
    return [word] if value is True else [word, str(value)]


@dataclass(frozen=True, kw_only=True)
class About:
    """What all entries of a run on one machine have in common."""

    model: str
    """Name of the checkpoint."""
    model_sha256: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    host: str


def about(request: Request) -> About:
    """Read off the request and this machine.  Raises as `Request.check`."""
    return About(
        model=request.check().name,
        model_sha256=hash_model(find_checkpoint(request.model)),
        config=request.config(),
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )
