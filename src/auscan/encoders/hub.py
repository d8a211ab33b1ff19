"""Transformers models from the hub, from a local folder, or empty from their settings.

Nothing here runs unless a `base`, `large` or user-made config asks for it; `nano` needs no hub.
"""

from typing import Any

from safetensors import SafetensorError
from torch import nn

from auscan.core.errors import CheckpointError


def load_backbone(source: str, arch: dict[str, Any] | None) -> Any:
    """A transformers model: built empty from `arch` when given, else with weights from the hub or a folder.

    A network loaded from a checkpoint passes `arch`; its weights come from the checkpoint then, and
    nothing asks the hub. Raises CheckpointError when `source` cannot be had, ValueError or TypeError
    for an `arch` that transformers does not know.
    """
    from transformers import AutoConfig, AutoModel  # takes a second, and the shipped model needs none of it

    if arch is not None:
        return AutoModel.from_config(AutoConfig.for_model(**arch))
    try:
        return AutoModel.from_pretrained(source, use_safetensors=True)  # the other format unpickles
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights {source!r} are neither a local folder nor to be had from the hub. "
            f"Give a folder written by save_pretrained, or check the name and the network. "
            f"({str(error).splitlines()[0]})"
        ) from error


def with_arch(config: Any, encoder: nn.Module) -> Any:
    """`config` with the transformers settings of `encoder` filled in, ready to be stored in a checkpoint."""
    if not isinstance(getattr(encoder, "backbone", None), nn.Module):
        return config
    backbone: Any = encoder.backbone
    arch = backbone.config.to_dict()
    arch.pop("_name_or_path", None)  # a folder of this machine, which is nobody else's business
    return config.model_copy(update={"arch": arch})
