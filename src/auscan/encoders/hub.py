"""Load transformers models from the hub, from a local folder, or without weights from their settings.

A source is a local folder, a hub name, or name@revision. A revision is a branch, a tag or a commit; prefer a
commit, because it cannot move. A source loaded from the hub is stored as name@commit. Only safetensors
weights are loaded, always as float32, and all of them must be finite.

The model_type in the config.json of a source selects the class (`MODELS`). preprocessor_config.json, if there
is one, is read with the weights; the encoders copy what they need of it into their own config, so that a
checkpoint needs neither file.

`nano` does not use this module; `base`, `large` and configs with these encoders do.

Inputs: a source and, for a stored checkpoint, the transformers settings. Returns: a transformers model.
See also: visual.py and audio.py (the encoders).
"""

import difflib
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from safetensors import SafetensorError
from torch import nn

from auscan.core.errors import CheckpointError

Purpose = Literal["visual", "audio"]
"""Input of an encoder."""

MODELS: Final[dict[Purpose, dict[str, tuple[str, str]]]] = {
    "visual": {
        "dinov2": ("dinov2", "dinov2.modeling_dinov2.Dinov2Model"),
        "dinov2_with_registers": (
            "dinov2",
            "dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersModel",
        ),
        "dinov3_vit": ("dinov3", "dinov3_vit.modeling_dinov3_vit.DINOv3ViTModel"),
        "clip": ("clip", "clip.modeling_clip.CLIPVisionModel"),
        "clip_vision_model": ("clip", "clip.modeling_clip.CLIPVisionModel"),
        "siglip": ("siglip", "siglip.modeling_siglip.SiglipVisionModel"),
        "siglip_vision_model": ("siglip", "siglip.modeling_siglip.SiglipVisionModel"),
        "vit": ("vit", "vit.modeling_vit.ViTModel"),
    },
    "audio": {
        "wavlm": ("wavlm", "wavlm.modeling_wavlm.WavLMModel"),
        "hubert": ("hubert", "hubert.modeling_hubert.HubertModel"),
        "wav2vec2": ("wav2vec2", "wav2vec2.modeling_wav2vec2.Wav2Vec2Model"),
        "whisper": ("whisper", "whisper.modeling_whisper.WhisperEncoder"),
    },
}
"""model_type -> kind of the config and class in transformers.models."""
MODEL_OPTIONS: Final[dict[str, dict[str, Any]]] = {"vit": {"add_pooling_layer": False}}
"""Kind -> options of the class. Many ViT weights have no pooling layer, and it is not used."""
KEY_MAPPINGS: Final[dict[str, dict[str, str]]] = {"whisper": {r"^(model\.)?encoder\.": ""}}
"""Kind -> renaming of weights. Only the encoder of Whisper is loaded."""
UNUSED_WEIGHTS: Final = ("mask_token", "masked_spec_embed")
"""Ends of the names of weights that only pretraining uses; a source may lack them, and they are then 0."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """Transformers model of an encoder, in evaluation mode, without gradients."""

    model: Any
    """The model, float32."""
    kind: str
    """Kind of the config, such as dinov2."""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    """Content of preprocessor_config.json; empty if there is none or the model was built without weights."""


def load_backbone(source: str, arch: dict[str, Any] | None, purpose: Purpose) -> Backbone:
    """Load a transformers model with weights from `source`, or build it without weights from `arch`.

    source: local folder, hub name or name@revision
    arch: transformers settings, for a network whose weights are in a checkpoint; the hub is not contacted.
    None loads from `source`

    Raises CheckpointError if `source` cannot be loaded or is of no supported kind, ValueError or TypeError if
    transformers does not support `arch`.
    """
    if arch is not None:
        from transformers import AutoConfig  # imported when needed: it takes a second

        kind, model_class = _find_class(arch.get("model_type"), purpose, "A stored config")
        model = model_class(AutoConfig.for_model(**arch), **MODEL_OPTIONS.get(kind, {})).float()
        return Backbone(model.requires_grad_(False).eval(), kind)
    name, revision = split_source(source)
    _refuse_pickled_weights(source)
    try:
        settings = _read_settings(name, revision)
        kind, model_class = _find_class(settings.get("model_type"), purpose, repr(source))
        model = _load_weights(source, model_class, kind)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        problem = (
            f"The weights in the folder {source!r} cannot be loaded. "
            "Give a folder written by save_pretrained."
            if Path(source).is_dir()
            else f"The weights {source!r} are neither a local folder nor available from the hub. "
            "Give a folder written by save_pretrained, or check name, revision and network."
        )
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{problem} ({reason})") from error
    return Backbone(model.requires_grad_(False).eval(), kind, _read_preprocessing(name, revision))


def _find_class(model_type: Any, purpose: Purpose, where: str) -> tuple[str, Any]:
    """Return the kind and the class of a model_type; raise CheckpointError if it is not supported.

    where: the source, for messages
    """
    models = MODELS[purpose]
    if model_type in models:
        kind, path = models[model_type]
        module, _, name = path.rpartition(".")
        return kind, getattr(importlib.import_module(f"transformers.models.{module}"), name)
    supported = ", ".join(dict.fromkeys(kind for kind, _ in models.values()))
    for other, others in MODELS.items():
        if model_type in others:
            raise CheckpointError(
                f"{where} is an encoder for {'audio' if other == 'audio' else 'pictures'} "
                f"(model_type {model_type}); give one for {'audio' if purpose == 'audio' else 'pictures'}: "
                f"{supported}."
            )
    nearest = difflib.get_close_matches(str(model_type), models, 1, cutoff=0.0)[0]
    raise CheckpointError(
        f"{where} has the model_type {model_type}, which is not supported. The nearest supported kind is "
        f"{models[nearest][0]}; supported are {supported}."
    )


def _read_settings(name: str, revision: str | None) -> dict[str, Any]:
    """Return the content of config.json; raise OSError or ValueError if it cannot be read."""
    from transformers import PreTrainedConfig

    settings, _ = PreTrainedConfig.get_config_dict(name, revision=revision or "main")
    if "model_type" not in settings:
        raise ValueError(f"no config.json with a model_type in {name}")
    return dict(settings)


def _load_weights(source: str, model_class: Any, kind: str) -> nn.Module:
    """Load the weights of a source as float32.

    Raises CheckpointError if a weight is missing, misshapen, NaN or infinite, and the errors of transformers.
    """
    import torch

    name, revision = split_source(source)
    with _quiet():
        # Only safetensors, because the other format is unpickled. Code from a repository is never run.
        model, report = model_class.from_pretrained(
            name,
            revision=revision or "main",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            key_mapping=KEY_MAPPINGS.get(kind),
            **MODEL_OPTIONS.get(kind, {}),
        )
    missing = sorted(set(report["missing_keys"]))
    lacking = [each for each in missing if not each.endswith(UNUSED_WEIGHTS)]
    if lacking:
        raise CheckpointError(
            f"The weights {source!r} lack {len(lacking)} weights of {model_class.__name__}, such as "
            f"{lacking[0]}. Download them again, or give the weights that belong to this config.json."
        )
    weights: dict[str, torch.Tensor] = model.state_dict()
    for each in missing:
        weights[each].zero_()  # transformers fills it with random numbers
    broken = [each for each, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"The weights {source!r} contain NaN or infinity, such as in {broken[0]}, so every token would "
            "be NaN. Download or convert them again."
        )
    assert isinstance(model, nn.Module)
    return model


def _refuse_pickled_weights(source: str) -> None:
    """Raise CheckpointError if a local folder has pickled weights only."""
    folder = Path(source)
    pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickled and not list(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{source} has pickled weights only ({pickled[0].name}), which auscan does not load because "
            'unpickling can run code; if you trust the file, convert it to safetensors: python -c "from '
            f"transformers import AutoModel; AutoModel.from_pretrained('{source}', use_safetensors=False)"
            f".save_pretrained('{source}-safetensors')\", and copy preprocessor_config.json beside it."
        )


def _read_preprocessing(name: str, revision: str | None) -> dict[str, Any]:
    """Return the content of preprocessor_config.json; empty if the source has none.

    Newer folders store it in processor_config.json, under image_processor or feature_extractor.
    Raises CheckpointError if the file cannot be read.
    """
    from transformers.utils import cached_file

    optional = ("gated_repo", "missing_entries", "connection_errors")
    for file in ("preprocessor_config.json", "processor_config.json"):
        path = cached_file(
            name,
            file,
            revision=revision or "main",
            **{f"_raise_exceptions_for_{each}": False for each in optional},
        )
        if path is None:
            continue
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("not an object")
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"The {file} of {name} cannot be read ({error}). Download it again, or delete it to use the "
                "usual preprocessing of the model."
            ) from error
        nested = content.get("image_processor", content.get("feature_extractor"))
        if isinstance(nested, dict):
            return nested
        if file == "preprocessor_config.json":
            return content
    return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress bar of transformers and its report about weights that are not used."""
    from transformers.utils import logging

    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()


def with_arch(config: Any, encoder: nn.Module) -> Any:
    """Return `config` with everything that rebuilds `encoder`, to be stored in a checkpoint.

    These are the transformers settings, the kind and the preprocessing. If the weights were loaded from the
    hub, `source` becomes name@commit. Configs of other encoders are returned unchanged.
    """
    if isinstance(getattr(encoder, "members", None), nn.ModuleList):
        pairs = zip(config.members, encoder.members, strict=True)  # type: ignore[arg-type]
        return config.model_copy(update={"members": tuple(with_arch(*pair) for pair in pairs)})
    if not isinstance(getattr(encoder, "backbone", None), nn.Module):
        return config
    backbone: Any = encoder.backbone
    arch = backbone.config.to_dict()
    arch.pop("_name_or_path", None)  # may be a private path of this machine
    arch["dtype"] = "float32"
    source = pin_revision(config.source) if config.arch is None else config.source
    resolved = encoder.preprocessing
    assert isinstance(resolved, dict)
    return config.model_copy(update={**resolved, "arch": arch, "source": source})


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
