"""Transformers models from the hub, from a local folder, or empty from their settings.

A source is a local folder, a hub name, or name@revision: a branch, a tag or, best, a commit, which nobody can
move. What was loaded from the hub is remembered as name@commit. Weights are safetensors or refused.

Nothing here runs unless a `base`, `large` or user-made config asks for it; `nano` needs no hub.
"""

from pathlib import Path
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
    name, revision = split_source(source)
    try:
        # Safetensors, since the other format unpickles. Code that a repository brings is never run.
        return AutoModel.from_pretrained(
            name, revision=revision or "main", use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights {source!r} are neither a local folder nor to be had from the hub. "
            f"Give a folder written by save_pretrained, or check name, revision and network. "
            f"({str(error).splitlines()[0]})"
        ) from error


def with_arch(config: Any, encoder: nn.Module) -> Any:
    """`config` with what `encoder` was made of filled in, ready to be stored in a checkpoint.

    That is the transformers settings and, where the weights have just come from the hub, their commit.
    """
    if not isinstance(getattr(encoder, "backbone", None), nn.Module):
        return config
    backbone: Any = encoder.backbone
    arch = backbone.config.to_dict()
    arch.pop("_name_or_path", None)  # a folder of this machine, which is nobody else's business
    source = pin_revision(config.source) if config.arch is None else config.source
    return config.model_copy(update={"arch": arch, "source": source})


def split_source(source: str) -> tuple[str, str | None]:
    """Hub name and revision of name@revision; a folder, and a name alone, has no revision."""
    if Path(source).is_dir():
        return source, None
    name, _, revision = source.partition("@")
    return name, revision or None


def pin_revision(source: str) -> str:
    """name@commit of weights that were loaded from the hub; a folder stays as it is.

    So does a name whose weights do not lie in the cache under the revision that was asked for: transformers
    looks for converted ones elsewhere, where a repository has only weights that unpickle.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return source
    name, revision = split_source(source)
    for file in ("model.safetensors", "model.safetensors.index.json"):
        cached = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(cached, str):
            return f"{name}@{Path(cached).parent.name}"
    return source
