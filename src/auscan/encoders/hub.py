"""Load transformers models from the hub, from a local folder, or without weights from their settings.

A source is a local folder, a hub name, or name@revision. A revision is a branch, a tag or a commit; prefer a
commit, because it cannot move. A source loaded from the hub is stored as name@commit. Only safetensors
weights are loaded.

`nano` does not use this module; `base`, `large` and configs with these encoders do.

Inputs: a source and, for a stored checkpoint, the transformers settings. Returns: a transformers model.
See also: visual.py (DINOv2), audio.py (WavLM).
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from auscan.core.errors import CheckpointError


def load_backbone(source: str, arch: dict[str, Any] | None) -> Any:
    """Load a transformers model with weights from `source`, or build it without weights from `arch`.

    source: local folder, hub name or name@revision
    arch: transformers settings, for a network whose weights are in a checkpoint; the hub is not contacted.
    None loads from `source`

    Raises CheckpointError if `source` cannot be loaded, ValueError or TypeError if transformers does not
    support `arch`.
    """
    from transformers import AutoConfig, AutoModel  # imported when needed: it takes a second

    if arch is not None:
        return AutoModel.from_config(AutoConfig.for_model(**arch))
    name, revision = split_source(source)
    try:
        # Only safetensors, because the other format is unpickled. Code from a repository is never run.
        return AutoModel.from_pretrained(
            name, revision=revision or "main", use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights {source!r} are neither a local folder nor available from the hub. "
            f"Give a folder written by save_pretrained, or check name, revision and network. "
            f"({str(error).splitlines()[0]})"
        ) from error


def with_arch(config: Any, encoder: nn.Module) -> Any:
    """Return `config` with the transformers settings of `encoder`, to be stored in a checkpoint.

    If the weights were loaded from the hub, `source` becomes name@commit. Configs of other encoders are
    returned unchanged.
    """
    if not isinstance(getattr(encoder, "backbone", None), nn.Module):
        return config
    backbone: Any = encoder.backbone
    arch = backbone.config.to_dict()
    arch.pop("_name_or_path", None)  # may be a private path of this machine
    source = pin_revision(config.source) if config.arch is None else config.source
    return config.model_copy(update={"arch": arch, "source": source})


def split_source(source: str) -> tuple[str, str | None]:
    """Split name@revision into hub name and revision; the revision is None for a folder or a bare name."""
    if Path(source).is_dir():
        return source, None
    name, _, revision = source.partition("@")
    return name, revision or None


def pin_revision(source: str) -> str:
    """Return name@commit for weights loaded from the hub; return a folder unchanged.

    A name is also returned unchanged if the cache has no safetensors weights for its revision: for a
    repository with pickled weights only, transformers loads converted weights from another revision.
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
