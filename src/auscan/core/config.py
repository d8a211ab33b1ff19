"""Settings of the network and of a checkpoint, each explained right under it.

Plain data: no torch, no behaviour beyond validation. `nano`, `base` and `large` name the sizes.
Every model refuses unknown keys, so a config.json written by another version fails loudly.

Thresholds for a stated goal: a study may bear misses or false marks, seldom both alike.

    default    the checkpoint's own thresholds: best F1, where a recipe chose them
    balanced   as many misses as false marks: how often and how long an AU is active comes out right
    precise    few false marks: best F0.5, precision weighs twice as much as recall
    sensitive  few misses: best F2, recall weighs twice as much as precision

In: the config of a checkpoint.  Out: the same with the thresholds of a point.
Not here: how points are chosen (training/operating_points.py).

What to make of an input; light to import, as it is sent between processes.

Not here: making it (pipeline/outputs.py).
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.core.errors import InputError

SAMPLE_RATE_HZ = 16_000
"""Every sound is brought to this rate, mono, before anything else hears it."""
TOKEN_HOP = 320
"""Samples from one audio token to the next: 20 ms, WavLM's."""
TOKEN_RATE_HZ = SAMPLE_RATE_HZ / TOKEN_HOP
"""Audio tokens a second, of every encoder in encoders/audio.py; they must not come closer together."""
MAX_TOKEN_DISTANCE_S = 1.5 / TOKEN_RATE_HZ
"""A token further from a frame than this is not what is heard at the frame."""
ELAPSED_UNIT_HZ = 30.0
"""Elapsed time is counted in thirtieths of a second: about 1 a frame, whatever the frame rate."""
MAX_ELAPSED = 30.0
"""More than a second without the face counts as a second: an absence is no reason to forget a person."""


class Settings(BaseModel):
    """Frozen, strict about unknown keys; the base of every config."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ConvVisualConfig(Settings):
    """The compact convolutional face encoder; only encoders/visual.py reads it."""

    kind: Literal["conv"] = "conv"
    crop_size: int = 112
    """Side S of the crops, pixels."""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the stages; each stage halves the map, the last one's cells are the patches."""
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    """Residual blocks in each stage."""

    @property
    def patch_grid(self) -> int:
        """Patches along one side of the crop; N is its square."""
        return int(self.crop_size // 2 ** len(self.widths))

    @property
    def width(self) -> int:
        """Dv, channels of every visual token."""
        return self.widths[-1]


class Dinov2VisualConfig(Settings):
    """DINOv2 from transformers, with or without register tokens; only encoders/visual.py reads it."""

    kind: Literal["dinov2"] = "dinov2"
    crop_size: int = 224
    """Side S of the crops, pixels; a multiple of the patch size."""
    source: str = "facebook/dinov2-base"
    """Local folder, hub name or name@revision to take the weights from when there is no checkpoint; in a
    checkpoint of weights from the hub, name@commit."""
    arch: dict[str, Any] | None = None
    """The transformers config as a dict; filled in when a network is built, so a checkpoint needs no hub."""


class LogMelAudioConfig(Settings):
    """The compact log-mel voice encoder; only encoders/audio.py reads it."""

    kind: Literal["logmel"] = "logmel"
    mel_bands: int = 64
    width: int = 96
    """Da, channels of every audio token."""
    blocks: int = 3
    """Residual convolutions over time after the mel bands."""


class WavlmAudioConfig(Settings):
    """WavLM from transformers, a learned weighted sum over its layers; only encoders/audio.py reads it."""

    kind: Literal["wavlm"] = "wavlm"
    source: str = "microsoft/wavlm-base"
    """Local folder, hub name or name@revision to take the weights from when there is no checkpoint; in a
    checkpoint of weights from the hub, name@commit."""
    arch: dict[str, Any] | None = None
    """The transformers config as a dict; filled in when a network is built, so a checkpoint needs no hub."""


class AlignmentConfig(Settings):
    """Hierarchical granularity alignment; only model/alignment.py reads it."""

    width: int = 128
    """d, channels of the frame embedding and of everything over time."""
    au_width: int = 32
    """Channels of each of the 12 AU tokens."""
    heads: int = 4
    """Attention heads with which an AU query reads the active patches."""
    active_patches: int = 24
    """How many patches of a frame stay; the rest fall away."""


class FusionConfig(Settings):
    """How the face listens; only model/fusion.py reads it."""

    heads: int = 4
    reach_s: float = 0.5
    """How far a frame hears, each way. Seconds, not tokens, so that a change of fps changes nothing."""


class TemporalConfig(Settings):
    """Audio-guided bidirectional Mamba; only model/mamba.py reads it."""

    blocks: int = 2
    expand: int = 2
    """Channels inside a block over channels outside."""
    head_width: int = 32
    """Channels P of one scan head; each head has one decay."""
    state_width: int = 32
    """N, the size of the state a channel carries through time."""
    conv_width: int = 4
    """Frames seen by the short causal convolution before the scan."""


class NetworkConfig(Settings):
    """Everything needed to build the network without its weights."""

    visual: Annotated[ConvVisualConfig | Dinov2VisualConfig, Field(discriminator="kind")]
    audio: Annotated[LogMelAudioConfig | WavlmAudioConfig, Field(discriminator="kind")]
    alignment: AlignmentConfig = AlignmentConfig()
    fusion: FusionConfig = FusionConfig()
    temporal: TemporalConfig = TemporalConfig()
    grid: int | None = Field(default=None, ge=1)
    """Patches are averaged to this many along a side before alignment reads them; None: as the encoder gives
    them. Only model/network.py reads it."""


def nano() -> NetworkConfig:
    """The shipped size: a few million weights, made for two CPU cores."""
    return NetworkConfig(visual=ConvVisualConfig(), audio=LogMelAudioConfig())


def base() -> NetworkConfig:
    """DINOv2-B and WavLM-base; weights come from the hub or a local folder."""
    return NetworkConfig(
        visual=Dinov2VisualConfig(source="facebook/dinov2-base"),
        audio=WavlmAudioConfig(source="microsoft/wavlm-base"),
        alignment=AlignmentConfig(width=256, au_width=64, active_patches=64),
        temporal=TemporalConfig(blocks=4, head_width=64, state_width=64),
    )


def large() -> NetworkConfig:
    """DINOv2-L and WavLM-large; weights come from the hub or a local folder."""
    return NetworkConfig(
        visual=Dinov2VisualConfig(source="facebook/dinov2-large"),
        audio=WavlmAudioConfig(source="microsoft/wavlm-large"),
        alignment=AlignmentConfig(width=384, au_width=64, heads=8, active_patches=64),
        fusion=FusionConfig(heads=8),
        temporal=TemporalConfig(blocks=6, head_width=64, state_width=64),
    )


PerAu = Annotated[tuple[float, ...], Field(min_length=AU_COUNT, max_length=AU_COUNT)]
"""A number for each AU, in the order of `AU_NAMES`."""


class Calibration(Settings):
    """How logits become probabilities: sigmoid(scale * logit + shift), for each AU (Platt scaling)."""

    scale: PerAu = (1.0,) * AU_COUNT
    """Above 0, so that the order of frames stays."""
    shift: PerAu = (0.0,) * AU_COUNT

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < each < float("inf") for each in scale):
            raise ValueError(f"must be above 0 for every AU, got {scale}")
        return scale


UNCALIBRATED = Calibration()
"""Leaves logits as they are."""


class OperatingPoints(Settings):
    """Thresholds for other goals than the best F1; the module says what each is for."""

    balanced: PerAu
    precise: PerAu
    sensitive: PerAu


class CheckpointConfig(Settings):
    """What config.json of a checkpoint folder holds: every question about the weights, answered."""

    model_config = ConfigDict(populate_by_name=True)

    format: Literal[1] = 1
    """Number of this layout; a reader refuses others."""
    name: str
    """Model id, as written into results."""
    au_names: tuple[str, ...] = AU_NAMES
    """Which AU each output column is."""
    untrained_aus: tuple[str, ...] = Field(
        default=(), validation_alias="untaught", serialization_alias="untaught"
    )
    """AUs that no training label covered. Their columns are written as NaN, never as a guess."""
    has_pose_occlusion: bool = Field(default=False, validation_alias="sight", serialization_alias="sight")
    """Whether the visual stage was taught head pose and cover. Without, they are written as NaN."""
    calibration: Calibration = UNCALIBRATED
    """What is done to the logits; without it they are taken as they are."""
    thresholds: PerAu = (0.5,) * AU_COUNT
    """An AU counts as active from this probability, after calibration, on."""
    operating_points: OperatingPoints | None = None
    """Other thresholds for a stated goal; None where nobody chose any."""
    crop_template: Literal["arcface-112"] = "arcface-112"
    """Where the five points lie in the crop: faces/align.py."""
    sample_rate_hz: Literal[16_000] = 16_000
    licence: str = "Apache-2.0"
    reference: str = ""
    """A sentence on where the labels came from that it was taught with, for readers of its results."""
    auscan_version: str
    """The version that wrote the checkpoint."""
    network: NetworkConfig

    @field_validator("au_names")
    @classmethod
    def _check_au_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names != AU_NAMES:
            raise ValueError(f"must be {', '.join(AU_NAMES)}, for that is how columns are read")
        return names

    @field_validator("untrained_aus")
    @classmethod
    def _check_untrained_aus(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AU_NAMES:
                raise ValueError(f"{name!r} is none of {', '.join(AU_NAMES)}")
        return names

    def to_json(self) -> str:
        """Return the text of config.json; fields with an alias keep their stored key."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


OperatingPoint = Literal["default", "balanced", "precise", "sensitive"]


def with_operating_point(config: CheckpointConfig, point: OperatingPoint) -> CheckpointConfig:
    """The config with the thresholds of a point in place of its own.

    Raises InputError for a point that does not exist or that the checkpoint does not hold.
    """
    if point == "default":
        return config
    if config.operating_points is None:
        raise InputError(
            f"{config.name} holds no operating points, so there is none called {point!r}. Leave the option "
            "out, or pack the checkpoint again with thresholds from `auscan evaluate --save-thresholds`."
        )
    points = config.operating_points.model_dump()
    if point not in points:
        raise InputError(f"{point!r} is no operating point. Take default, {', '.join(points)}.")
    return config.model_copy(update={"thresholds": points[point]})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to make of an input; every field changes what is written."""

    operating_point: OperatingPoint = "default"
    overlay: bool = False
    report: bool = False
    attributions: bool = False
    """Also write evidence.parquet."""
    as_video_hz: float | None = None
    """Pictures per second where a folder of numbered pictures is read as a video."""
    keep_all: bool = False
    baseline: str = "none"

    def stored(self) -> dict[str, Any]:
        """Return the values by the keys under which results store them."""
        return {"evidence" if key == "attributions" else key: value for key, value in asdict(self).items()}
