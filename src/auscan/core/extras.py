"""What is only there with `pip install 'auscan[train]'`, and how a user is told.

The shipped model runs without PyTorch. Whatever teaches, converts or runs other models needs the extra.
"""

from importlib.util import find_spec

from auscan.core.errors import InputError

INSTALL = "pip install 'auscan[train]'"

TRAIN_MODULES = frozenset(
    {"accelerate", "numba", "onnx", "onnxscript", "peft", "pyarrow", "safetensors", "scipy"}
    | {"sklearn", "torch", "transformers", "yaml"}
)
"""Modules that the extra brings."""


def need_torch(what: str) -> None:
    """Raise InputError, which says how to mend it, where PyTorch is not installed; `what` needs it."""
    if find_spec("torch") is None:
        raise InputError(f"{what} needs PyTorch, which is not installed. Run: {INSTALL}")
