"""What is only there with an extra, such as `pip install 'auscan[train]'`, and how a user is told.

The shipped model runs without PyTorch. Whatever teaches, converts or runs other models needs [train]; what
makes one data set of many results, and asks it, needs [batch]; many machines at once need [ray].
"""

from importlib.util import find_spec

from auscan.core.errors import InputError

INSTALL = "pip install 'auscan[train]'"

TRAIN_MODULES = frozenset(
    {
        "accelerate",
        "huggingface_hub",
        "numba",
        "onnx",
        "onnxscript",
        "peft",
        "pyarrow",
        "safetensors",
        "scipy",
        "sklearn",
        "torch",
        "transformers",
        "yaml",
    }
)
"""Modules that the extra brings."""


def need_extra(what: str, module: str, extra: str) -> None:
    """Raise InputError, which says how to mend it, where a module that an extra brings is not installed."""
    if find_spec(module) is None:
        raise InputError(
            f"`{what}` needs {module}, which is not installed. Run: pip install 'auscan[{extra}]'"
        )


def need_torch(what: str) -> None:
    """Raise InputError, which says how to mend it, where PyTorch is not installed; `what` needs it."""
    if find_spec("torch") is None:
        raise InputError(f"{what} needs PyTorch, which is not installed. Run: {INSTALL}")
