"""Load an engine for a checkpoint: ONNX Runtime or PyTorch.

Inputs: a shipped name, a folder or a hub name, and where to run it. Returns: an InferenceEngine.
See also: engine.py (the contract), onnx_engine.py, torch_engine.py.
"""

from pathlib import Path
from typing import Literal

from auscan.core.checkpoint_folder import find_checkpoint, has_graphs, with_revision
from auscan.core.environment import require_torch
from auscan.core.errors import CheckpointError, InputError
from auscan.inference.engine import InferenceEngine

Backend = Literal["auto", "torch", "onnx"]


def load_engine(
    checkpoint: str | Path = "nano",
    backend: Backend = "auto",
    device: str = "auto",
    threads: int | None = None,
    *,
    revision: str | None = None,
) -> InferenceEngine:
    """Load an engine for a shipped checkpoint, a folder, or a model on the Hub (user/name[@revision]).

    backend: "onnx" (ONNX Runtime, on the CPU), "torch", or "auto": onnx if the checkpoint has graphs and
    `device` is not a GPU, else torch
    device: "cpu", "cuda:0", or "auto": the CPU for onnx; the first GPU, else the CPU, for torch
    threads: number of threads of the engine; None for the engine's default
    revision: branch, tag or commit of a model on the Hub; the branch main by default

    Raises CheckpointError if the checkpoint is not found or invalid, InputError if the device is not
    available, or if PyTorch or huggingface_hub is needed but not installed.
    """
    folder = find_checkpoint(with_revision(checkpoint, revision))
    on_cpu = device in ("auto", "cpu")
    if backend == "onnx" or (backend == "auto" and on_cpu and has_graphs(folder)):
        if not on_cpu:
            raise InputError(f"The backend onnx runs on the CPU only. Give the backend torch for {device}.")
        from auscan.inference.onnx_engine import OnnxEngine  # onnxruntime is imported when needed

        return OnnxEngine(folder, threads)
    require_torch(f"The backend torch, needed to run {checkpoint} on device {device},")
    from auscan.inference.torch_engine import TorchEngine

    return TorchEngine(folder, device, threads)


def require_attributions(engine: InferenceEngine) -> None:
    """Raise CheckpointError if the engine cannot return attributions."""
    if not engine.has_attributions:
        raise CheckpointError(
            f"The graphs of {engine.config.name} have no evidence: an early version of auscan wrote them. "
            f"Write them again with `auscan export`, or run the weights with `--backend torch`."
        )
