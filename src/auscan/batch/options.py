"""Hold the options of a run as plain values that can be sent to another process.

Inputs: the options of `auscan detect`. Returns: metadata of all manifest records, the command for one input.
See also: plan.py (which inputs to process), core/config.py (`Options`).
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
    """Model, device and options of a run of `auscan detect`."""

    model: str = "nano"
    """Name of a shipped model, or a checkpoint folder."""
    backend: Literal["auto", "torch", "onnx"] = "auto"
    """Inference engine."""
    device: str = "auto"
    """Device of the model: auto, cpu or cuda."""
    threads: int | None = None
    """Threads of each process, None for the default; does not change the results."""
    options: Options = field(default_factory=Options)
    """Options that change the files written."""

    def check(self) -> CheckpointConfig:
        """Check the request without loading the model; return the checkpoint's config.

        Raises InputError if the baseline or the operating point does not exist; CheckpointError if the model
        cannot be read.
        """
        from auscan.results.baseline import parse_baseline  # pandas is slow to load

        parse_baseline(self.options.baseline)
        return with_operating_point(read_config(find_checkpoint(self.model)), self.options.operating_point)

    def config(self) -> dict[str, Any]:
        """Return all options that change the files written, by name."""
        return {"backend": self.backend, "device": self.device, **self.options.stored()}

    def command(self, source: Path, out: Path) -> str:
        """Return the command line that reproduces the result of one input."""
        arguments = ["auscan", "detect", str(source), "--out", str(out)]
        default = DetectRequest()
        for name in ("model", "backend", "device"):
            arguments += _option_arguments(name, getattr(self, name), getattr(default, name))
        for each in fields(Options):
            name = OPTION_NAMES.get(each.name, each.name)
            arguments += _option_arguments(name, getattr(self.options, each.name), each.default)
        return shlex.join(arguments)


def _option_arguments(name: str, value: object, default: object) -> list[str]:
    """Return the command-line arguments of an option; none if it has its default value."""
    if value == default:
        return []
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, float):
        return [flag, f"{value:g}"]
    return [flag] if value is True else [flag, str(value)]


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """Fields that all manifest records of a run on one machine share."""

    model: str
    """Name of the checkpoint."""
    model_sha256: str
    """Hash of the checkpoint (`core.checkpoint_folder.hash_model`)."""
    config: Mapping[str, Any]
    """Options that change the files written, by name."""
    versions: Mapping[str, str]
    """Versions of Python and the relevant packages."""
    host: str
    """Name of the machine."""


def run_metadata(request: DetectRequest) -> RunMetadata:
    """Return the metadata of a request on this machine. Raise as `DetectRequest.check`."""
    return RunMetadata(
        model=request.check().name,
        model_sha256=hash_model(find_checkpoint(request.model)),
        config=request.config(),
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )
