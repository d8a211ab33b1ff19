"""What a batch makes of every input, as plain values that can be sent to another process.

In: the options of a command.  Out: what goes into every line of the manifest, and the command for one input.
Not here: which inputs (plan.py).
"""

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from auscan.core.checkpoint_folder import find_checkpoint, hash_model, read_config
from auscan.core.config import CheckpointConfig, Options, with_operating_point
from auscan.core.environment import versions

OPTION_NAMES = {"as_video_hz": "as_video", "attributions": "evidence"}
"""Command-line names of options whose field has another name."""


@dataclass(frozen=True, kw_only=True)
class DetectRequest:
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
        return with_operating_point(read_config(find_checkpoint(self.model)), self.options.operating_point)

    def config(self) -> dict[str, Any]:
        """All options that change what is written, by name."""
        return {"backend": self.backend, "device": self.device, **self.options.stored()}

    def command(self, source: Path, out: Path) -> str:
        """What to type to get the result of one input again."""
        arguments = ["auscan", "detect", str(source), "--out", str(out)]
        default = DetectRequest()
        for name in ("model", "backend", "device"):
            arguments += _option_arguments(name, getattr(self, name), getattr(default, name))
        for each in fields(Options):
            name = OPTION_NAMES.get(each.name, each.name)
            arguments += _option_arguments(name, getattr(self.options, each.name), each.default)
        return shlex.join(arguments)


def _option_arguments(name: str, value: object, default: object) -> list[str]:
    """The words for an option; none where it has its usual value."""
    if value == default:
        return []
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, float):
        return [flag, f"{value:g}"]
    return [flag] if value is True else [flag, str(value)]


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """What all records of a run on one machine have in common."""

    model: str
    """Name of the checkpoint."""
    model_sha256: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    host: str


def run_metadata(request: DetectRequest) -> RunMetadata:
    """Read off the request and this machine.  Raises as `DetectRequest.check`."""
    return RunMetadata(
        model=request.check().name,
        model_sha256=hash_model(find_checkpoint(request.model)),
        config=request.config(),
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )
