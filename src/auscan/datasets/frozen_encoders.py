"""Load the frozen encoders that extract features, and run them.

Inputs: a size, a checkpoint folder or a shipped model; names of hub weights. Returns: `Encoders`.
See also: features.py (uses them), encoders/ (the networks), model/token_mix.py (several encoders).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auscan.core.checkpoint_folder import UNSHIPPED_SIZES
from auscan.core.config import (
    LAYER_GROUPS,
    HubAudioConfig,
    HubVisualConfig,
    NetworkConfig,
    Settings,
    SeveralAudioConfig,
    SeveralVisualConfig,
    base,
    large,
)
from auscan.core.errors import InputError
from auscan.encoders.audio import build_audio_encoder
from auscan.encoders.hub import with_arch
from auscan.encoders.visual import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VisualEncoder,
    build_visual_encoder,
    pool_patches,
)
from auscan.inference.engine import AudioLevel
from auscan.model.checkpoint import load_checkpoint
from auscan.model.token_mix import token_parts


class Encoders:
    """Visual and audio encoder of a model, frozen, on one device."""

    def __init__(
        self,
        name: str,
        config: NetworkConfig,
        visual: VisualEncoder,
        audio: nn.Module,
        device: str,
        points: nn.Module | None = None,
        pose_occlusion: nn.Module | None = None,
    ) -> None:
        """Freeze the encoders and move them to `device`.

        points, pose_occlusion: layers that predict five points, and head pose and occlusion, from the global
        token; None if untrained.
        """
        self.name, self.config, self.device = name, config, torch.device(device)
        self.crop_size = config.visual.crop_size
        self.visual = visual.eval().requires_grad_(False).to(self.device)
        self.audio = audio.eval().requires_grad_(False).to(self.device)
        self.points, self.pose_occlusion = points, pose_occlusion
        self.digest = _digest(config, visual, audio)
        self.width, self.audio_width = visual.width, cast(int, audio.width)
        self.visual_parts, self.audio_parts = token_parts(visual), token_parts(audio)
        self.grid = round(visual.patch_count**0.5)
        """Patches per side before averaging."""

    @torch.inference_mode()
    def encode_faces(
        self, crops: NDArray[np.uint8], grid: int
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Encode crops [B, S, S, 3] RGB into global tokens [B, Dv] and pooled patches [B, grid ** 2, Dv]."""
        with self._autocast():
            face, patches = self.visual(torch.from_numpy(crops).to(self.device))
        return to_float16(face), to_float16(pool_patches(patches.float(), grid))

    @torch.inference_mode()
    def encode_audio(
        self, samples: NDArray[np.float32], level: AudioLevel | None = None
    ) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz; return tokens [M // 320, Da].  Implements `AudioEncoder`."""
        waveform = torch.from_numpy(samples)[None].to(self.device)
        with self._autocast():
            tokens = (self.audio(waveform) if level is None else self.audio(waveform, level))[0]
        out: NDArray[np.float32] = tokens.float().cpu().numpy()
        return out

    def _autocast(self) -> Any:
        """Return an autocast context: half precision on CUDA. Features are stored as float16 in any case."""
        return torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda")


Sources = str | Sequence[str] | None
"""Weights of one or several encoders: local folders or hub names; None for those of the size."""


def load_encoders(
    model: str,
    visual: Sources = None,
    audio: Sources = None,
    device: str = "cpu",
    layer_groups: int | None = LAYER_GROUPS,
) -> Encoders:
    """Load the encoders of a size ('base', 'large'), a shipped checkpoint ('nano') or a checkpoint folder.

    visual, audio: weights that replace DINOv2 and WavLM of a size, of any kind in encoders/hub.py; the tokens
    of several are concatenated
    layer_groups: groups of layers of the audio encoders of a size; None: the sum of features of auscan 0.1.0

    Raises CheckpointError if the weights cannot be loaded, and InputError if `visual` or `audio` is given
    with a checkpoint or the device is not available.
    """
    check_device(device)
    if model not in UNSHIPPED_SIZES:
        if visual or audio:
            raise InputError(f"{model} has its own encoders. Omit --visual and --audio.")
        network, checkpoint = load_checkpoint(model)
        stage = network.visual
        is_mixed = bool(token_parts(stage.encoder))  # the mix, which comes before these layers, is retrained
        return Encoders(
            checkpoint.name,
            checkpoint.network,
            stage.encoder,
            network.audio,
            device,
            points=None if is_mixed else stage.points,
            pose_occlusion=stage.pose_occlusion if checkpoint.has_pose_occlusion and not is_mixed else None,
        )
    config = {"base": base, "large": large}[model]()
    grouped = config.audio.model_copy(update={"layer_groups": layer_groups})
    visual_config = _with_sources(config.visual, visual, SeveralVisualConfig)
    audio_config = _with_sources(grouped, audio, SeveralAudioConfig)
    visual_encoder, audio_encoder = build_visual_encoder(visual_config), build_audio_encoder(audio_config)
    config = config.model_copy(
        update={
            "visual": with_arch(visual_config, visual_encoder),
            "audio": with_arch(audio_config, audio_encoder),
        }
    )
    return Encoders(model, config, visual_encoder, audio_encoder, device)


def _with_sources(config: Any, sources: Sources, several: Any) -> Any:
    """Return the config with other weights; a config of the class `several` for more than one."""
    names = [sources] if isinstance(sources, str) else sources or [config.source]
    members = tuple(config.model_copy(update={"source": name}) for name in names)
    return members[0] if len(members) == 1 else several(members=members)


def use_threads(count: int) -> None:
    """Set the number of threads of the encoders in this process."""
    torch.set_num_threads(count)


def check_device(device: str) -> None:
    """Raise InputError if torch does not support the device or this machine does not have it."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The device {device!r} cannot be used ({reason}). Try cpu.") from error


def to_float16(values: Tensor) -> NDArray[np.float16]:
    """Round to float16; finite numbers beyond its range become its limits, infinite ones stay infinite."""
    limit, values = torch.finfo(torch.float16).max, values.float()
    limited = torch.where(values.isinf(), values, values.clamp(-limit, limit))
    half: NDArray[np.float16] = limited.half().cpu().numpy()
    return half


def _digest(config: NetworkConfig, visual: nn.Module, audio: nn.Module) -> str:
    """Return a digest of the encoders' settings and weights, independent of the folder they came from."""
    settings = [_digest_settings(config.visual), _digest_settings(config.audio)]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for module in (visual, audio):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _digest_settings(config: Settings) -> dict[str, Any]:
    """Return the settings of an encoder that change its tokens.

    Settings that auscan 0.1.0 did not have are left out if they have the values that it used, so that
    features of that version remain valid.
    """
    if isinstance(config, SeveralVisualConfig | SeveralAudioConfig):
        return {"members": [_digest_settings(member) for member in config.members]}
    settings = config.model_dump(exclude={"source"})
    used: dict[str, Any] = {}
    if isinstance(config, HubVisualConfig):
        used = {"pixel_scale": 255.0, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    elif isinstance(config, HubAudioConfig):
        has_layer_norm = (config.arch or {}).get("feat_extract_norm") == "layer"
        used = {"normalise": "segment" if has_layer_norm else "no", "layer_groups": None}
    return {
        name: value for name, value in settings.items() if name not in used or value not in (None, used[name])
    }
