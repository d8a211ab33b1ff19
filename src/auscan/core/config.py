"""Define the settings of the network, of a checkpoint and of a run of the pipeline.

The docstring of each field explains it. `nano`, `base` and `large` return the settings of the model sizes.
Every config refuses unknown keys, so a config.json of another version fails with an error. No torch.

A checkpoint can hold thresholds for several operating points, because the cost of false positives and false
negatives depends on the study:

    default    the checkpoint's own thresholds; recipes choose them for the best F1
    balanced   as many false negatives as false positives: unbiased frequency and duration of an AU
    precise    few false positives: best F0.5, precision weighs twice as much as recall
    sensitive  few false negatives: best F2, recall weighs twice as much as precision

See also: training/operating_points.py (chooses the thresholds), pipeline/detect.py (writes the outputs).
"""

from collections.abc import Sized
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from auscan.core.aus import AFFWILD2_AUS, check_au_names
from auscan.core.errors import InputError

SAMPLE_RATE_HZ = 16_000
"""Sample rate of all audio after decoding; audio is mono."""
TOKEN_HOP = 320
"""Samples from one audio token to the next: 20 ms, as in WavLM."""
TOKEN_RATE_HZ = SAMPLE_RATE_HZ / TOKEN_HOP
"""Audio tokens per second of every encoder in encoders/audio.py; tokens must not be closer together."""
MAX_TOKEN_DISTANCE_S = 1.5 / TOKEN_RATE_HZ
"""Largest distance in time between a frame and the audio token used for it."""
ELAPSED_UNIT_HZ = 30.0
"""Unit of elapsed time, 1/30 s: about 1 per frame at common frame rates."""
LAYER_GROUPS = 4
"""Groups of layers of an audio transformer whose means are kept as audio tokens."""
MAX_INTENSITY = 5.0
"""Largest intensity of an AU. In the truth of rendered faces it is 5 times the activation of the rig; in
coded data sets levels A to E are 1 to 5."""
MAX_ELAPSED = 30.0
"""Upper limit of elapsed time, 1 s: the state must not decay completely while a face is absent."""


CHECKPOINT_FORMAT: Final = 2
"""Format of new checkpoints. Format 1 is that of auscan 0.1.0 and is still read (model/migrate.py)."""

Rgb = tuple[float, float, float]
"""One number for red, green and blue."""
RgbAboveZero = tuple[
    Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
]
"""One number above 0 for red, green and blue."""


class Settings(BaseModel):
    """Base class of all configs: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ConvVisualConfig(Settings):
    """Settings of the compact convolutional face encoder (encoders/visual.py)."""

    kind: Literal["conv"] = "conv"
    crop_size: int = 112
    """Side S of the crops, pixels."""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of each stage. Each stage halves the feature map; cells of the last map are the patches."""
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    """Residual blocks of each stage."""
    patch_scales: Literal[1, 2] = 1
    """Feature maps that the patches are made of. 1: the last map. 2: the last two; the patches are the cells
    of the finer map, each with the cell of the last map that contains it (feature pyramid)."""

    @property
    def last_grid(self) -> int:
        """Cells along one side of the last feature map."""
        return int(self.crop_size // 2 ** len(self.widths))

    @property
    def patch_grid(self) -> int:
        """Patches along one side of the crop; N is the square of it."""
        return self.last_grid * self.patch_scales

    @property
    def width(self) -> int:
        """Channels Dv of each visual token."""
        return self.widths[-1]


class HubVisualConfig(Settings):
    """Settings of a vision transformer from transformers (encoders/visual.py)."""

    kind: Literal["dinov2", "dinov3", "clip", "siglip", "vit"] = "dinov2"
    """Architecture; set from the weights when they are loaded from `source`. DINOv2 with and without register
    tokens are one kind."""
    crop_size: int = 224
    """Side S of the crops, pixels. If it is not given, weights from `source` set it to the crop size of their
    preprocessor_config.json."""
    source: str = "facebook/dinov2-base"
    """Source of the pretrained weights if there is no checkpoint: local folder, hub name or name@revision.
    In a checkpoint with weights from the hub: name@commit."""
    arch: dict[str, Any] | None = None
    """Config of transformers; set when a network is built, so that a checkpoint loads without the hub."""
    pixel_scale: float | None = Field(default=None, gt=0)
    """Pixel value that becomes 1. None: that of preprocessor_config.json, else 255."""
    mean: Rgb | None = None
    """Mean of red, green and blue that is subtracted after scaling. None: that of preprocessor_config.json,
    else that of the kind."""
    std: RgbAboveZero | None = None
    """Standard deviation of red, green and blue that divides after that. None: as for the mean."""


class SeveralVisualConfig(Settings):
    """Settings of several vision transformers whose tokens are concatenated (encoders/visual.py)."""

    kind: Literal["several"] = "several"
    members: tuple[HubVisualConfig, ...] = Field(min_length=2)
    """The encoders, in the order of their tokens."""

    @property
    def crop_size(self) -> int:
        """Side S of the crops, pixels: that of the largest member; the others get resized crops."""
        return max(member.crop_size for member in self.members)


class LogMelAudioConfig(Settings):
    """Settings of the compact log-mel audio encoder (encoders/audio.py)."""

    kind: Literal["logmel"] = "logmel"
    mel_bands: int = 64
    """Mel bands of the spectrogram."""
    width: int = 96
    """Channels Da of each audio token."""
    blocks: int = 3
    """Residual convolution blocks over time after the mel spectrogram."""


class HubAudioConfig(Settings):
    """Settings of an audio transformer from transformers (encoders/audio.py)."""

    kind: Literal["wavlm", "hubert", "wav2vec2", "whisper"] = "wavlm"
    """Architecture; set from the weights when they are loaded from `source`. Of Whisper only the encoder."""
    source: str = "microsoft/wavlm-base"
    """Source of the pretrained weights if there is no checkpoint: local folder, hub name or name@revision.
    In a checkpoint with weights from the hub: name@commit."""
    arch: dict[str, Any] | None = None
    """Config of transformers; set when a network is built, so that a checkpoint loads without the hub."""
    normalise: Literal["no", "segment", "file"] | None = None
    """Scaling of the audio to mean 0 and standard deviation 1. file: by the level of the whole file, before
    it is split into segments; segment: by the level of each segment, as in auscan 0.1.0. None: file if
    preprocessor_config.json has do_normalize; in a checkpoint of 0.1.0 segment if the first layers have
    layer norm."""
    layer_groups: int | None = Field(default=None, ge=1)
    """Groups of consecutive layers whose means are the tokens, concatenated; at most one group a layer. The
    network learns their weights (model/token_mix.py). None: one weighted sum over all layers, as in auscan
    0.1.0."""


class SeveralAudioConfig(Settings):
    """Settings of several audio transformers whose tokens are concatenated (encoders/audio.py)."""

    kind: Literal["several"] = "several"
    members: tuple[HubAudioConfig, ...] = Field(min_length=2)
    """The encoders, in the order of their tokens."""


class TokenPart(Settings):
    """Part of a token that one encoder computes."""

    width: int = Field(ge=1)
    """Channels of each group."""
    groups: int = Field(default=1, ge=1)
    """Groups of layers, one after the other."""

    @property
    def channels(self) -> int:
        """Channels of the part."""
        return self.width * self.groups


VisualConfig = Annotated[
    ConvVisualConfig | HubVisualConfig | SeveralVisualConfig, Field(discriminator="kind")
]
"""Settings of a visual encoder."""
AudioConfig = Annotated[LogMelAudioConfig | HubAudioConfig | SeveralAudioConfig, Field(discriminator="kind")]
"""Settings of an audio encoder."""


class AlignmentConfig(Settings):
    """Settings of the alignment of global and local face features (model/alignment.py)."""

    width: int = 128
    """Channels d of the frame embedding and of the temporal stage."""
    au_width: int = 32
    """Channels da of each AU token."""
    heads: int = 4
    """Heads of the attention from AU queries to active patches."""
    active_patches: int | None = Field(default=None, ge=1)
    """Number k of the N patches kept per frame; the others are discarded. null: `active_share` of N. A stored
    network always has the number."""
    active_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the N patches kept per frame if `active_patches` is null; at least one patch is kept."""

    def active_count(self, patch_count: int) -> int:
        """Return the number of patches kept of `patch_count`: all if `active_patches` is larger."""
        wanted = self.active_patches or max(1, round(self.active_share * patch_count))
        return min(wanted, patch_count)

    def with_active_count(self, patch_count: int) -> "AlignmentConfig":
        """Return the settings with `active_patches` set for frames of `patch_count` patches."""
        if self.active_patches is not None:
            return self
        return self.model_copy(update={"active_patches": self.active_count(patch_count)})


class FusionConfig(Settings):
    """Settings of the audio-visual cross-attention (model/fusion.py)."""

    heads: int = 4
    """Attention heads."""
    reach_s: float = 0.5
    """Half-width of the attention window, in seconds (not tokens, so that it does not depend on the fps)."""


class TemporalConfig(Settings):
    """Settings of the audio-conditioned bidirectional Mamba (model/mamba.py)."""

    blocks: int = 2
    """Temporal blocks."""
    expand: int = 2
    """Ratio of the channels inside a block to the channels outside."""
    head_width: int = 32
    """Channels P of a scan head; each head has one decay."""
    state_width: int = 32
    """Size N of the state of each channel."""
    conv_width: int = 4
    """Kernel size, in frames, of the causal convolution before the scan."""


def _valid_au_names(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return check_au_names(names)
    except InputError as error:
        raise ValueError(str(error)) from None  # pydantic adds the name of the field


class NetworkConfig(Settings):
    """Settings that define the network without its weights."""

    visual: VisualConfig
    audio: AudioConfig
    alignment: AlignmentConfig = AlignmentConfig()
    fusion: FusionConfig = FusionConfig()
    temporal: TemporalConfig = TemporalConfig()
    grid: int | None = Field(default=None, ge=1)
    """Patches along a side after averaging, before the alignment; None: no averaging (model/network.py)."""
    au_names: Annotated[tuple[str, ...], AfterValidator(_valid_au_names)] = Field(
        default=AFFWILD2_AUS, exclude=True
    )
    """AU of each output [A], in order. A checkpoint stores them beside the network, not in it."""
    intensity: bool = False
    """Whether the network also estimates intensities, 0 to 5 (model/head.py)."""

    @property
    def normalises_file(self) -> bool:
        """Whether the audio encoder, or one of several, scales audio by the level of its whole file."""
        members = self.audio.members if isinstance(self.audio, SeveralAudioConfig) else (self.audio,)
        return any(isinstance(each, HubAudioConfig) and each.normalise == "file" for each in members)


def nano() -> NetworkConfig:
    """Return the settings of the shipped model: a few million weights, for two CPU cores."""
    return NetworkConfig(
        visual=ConvVisualConfig(),
        audio=LogMelAudioConfig(),
        alignment=AlignmentConfig(active_patches=24),  # of 7 x 7
    )


def base() -> NetworkConfig:
    """Return settings with DINOv2-B and WavLM-base; weights are read from the hub or a local folder."""
    return NetworkConfig(
        visual=HubVisualConfig(source="facebook/dinov2-base"),
        audio=HubAudioConfig(source="microsoft/wavlm-base", layer_groups=LAYER_GROUPS),
        alignment=AlignmentConfig(width=256, au_width=64),
        temporal=TemporalConfig(blocks=4, head_width=64, state_width=64),
    )


def large() -> NetworkConfig:
    """Return settings with DINOv2-L and WavLM-large; weights are read from the hub or a local folder."""
    return NetworkConfig(
        visual=HubVisualConfig(source="facebook/dinov2-large"),
        audio=HubAudioConfig(source="microsoft/wavlm-large", layer_groups=LAYER_GROUPS),
        alignment=AlignmentConfig(width=384, au_width=64, heads=8),
        fusion=FusionConfig(heads=8),
        temporal=TemporalConfig(blocks=6, head_width=64, state_width=64),
    )


PerAu = tuple[float, ...]
"""One number per AU, in the order of the AUs of the checkpoint."""


class Calibration(Settings):
    """Platt scaling per AU: probability = sigmoid(scale * logit + shift)."""

    scale: PerAu
    """Factor of the logit; above 0, so that calibration keeps the order of frames."""
    shift: PerAu
    """Added after scaling."""

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < each < float("inf") for each in scale):
            raise ValueError(f"must be above 0 for every AU, got {scale}")
        return scale


class OperatingPoints(Settings):
    """Thresholds for other criteria than F1; see the docstring of the module."""

    balanced: PerAu
    precise: PerAu
    sensitive: PerAu


_NumbersOfAus = TypeVar("_NumbersOfAus", Calibration | None, PerAu, OperatingPoints | None)


class CheckpointConfig(Settings):
    """Content of config.json in a checkpoint folder."""

    model_config = ConfigDict(populate_by_name=True)

    format: Literal[1, 2] = CHECKPOINT_FORMAT
    """Number of the checkpoint format; other numbers are refused."""
    name: str
    """Name of the model, as written to results."""
    au_names: Annotated[tuple[str, ...], AfterValidator(_valid_au_names)] = ()
    """AU of each output column, in order: those of the network, which has them from here when it is read."""
    untrained_aus: tuple[str, ...] = Field(
        default=(), validation_alias="untaught", serialization_alias="untaught"
    )
    """AUs without training labels. Their columns are NaN in results."""
    untrained_intensities: tuple[str, ...] = ()
    """AUs without training intensities. Their intensity columns are NaN in results."""
    has_pose_occlusion: bool = Field(default=False, validation_alias="sight", serialization_alias="sight")
    """Whether the visual stage was trained on head pose and occlusion. If not, both are NaN in results."""
    calibration: Calibration | None = None
    """Calibration of the logits; None: not calibrated."""
    thresholds: PerAu = ()
    """An AU is active if its calibrated probability is at least its threshold; 0.5 each if not given."""
    operating_points: OperatingPoints | None = None
    """Thresholds of the other operating points; None if none were chosen."""
    crop_template: Literal["arcface-112"] = "arcface-112"
    """Template of the five facial points in the crop (faces/align.py)."""
    sample_rate_hz: Literal[16_000] = 16_000
    """Sample rate of the audio."""
    licence: str = "Apache-2.0"
    """Licence of the weights."""
    reference: str = ""
    """Source of the training labels, one sentence; quoted in results."""
    auscan_version: str
    """Version of auscan that wrote the checkpoint."""
    network: NetworkConfig
    """Settings of the network."""

    @model_validator(mode="before")
    @classmethod
    def _join_au_names(cls, values: Any) -> Any:
        """Copy the AUs from the file to the network, or from a network to the file; fill in thresholds."""
        if not isinstance(values, dict):
            return values
        values, network = dict(values), values.get("network")
        if "au_names" not in values and isinstance(network, NetworkConfig):
            values["au_names"] = network.au_names
        names = values.setdefault("au_names", AFFWILD2_AUS)
        if isinstance(network, dict):
            values["network"] = {**network, "au_names": names}
        values.setdefault("thresholds", (0.5,) * len(names) if isinstance(names, Sized) else ())
        return values

    @field_validator("untrained_aus", "untrained_intensities")
    @classmethod
    def _check_untrained_aus(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = info.data.get("au_names", names)
        for name in names:
            if name not in known:
                raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return names

    @field_validator("calibration", "thresholds", "operating_points")
    @classmethod
    def _check_length(cls, value: _NumbersOfAus, info: ValidationInfo) -> _NumbersOfAus:
        """Raise ValueError unless there is one number per AU."""
        groups = value.model_dump().values() if isinstance(value, BaseModel) else [value or ()]
        count = len(info.data.get("au_names", ()))
        for numbers in groups if value is not None else ():
            if len(numbers) != count:
                raise ValueError(f"must have {count} numbers, one per AU, got {len(numbers)}")
        return value

    def to_json(self) -> str:
        """Return the text of config.json; fields with an alias keep their stored key."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


OperatingPoint = Literal["default", "balanced", "precise", "sensitive"]
"""Name of an operating point."""


def with_operating_point(config: CheckpointConfig, point: OperatingPoint) -> CheckpointConfig:
    """Return the config with the thresholds of an operating point.

    Raises InputError if the point does not exist or the checkpoint has no operating points.
    """
    if point == "default":
        return config
    if config.operating_points is None:
        raise InputError(
            f"{config.name} has no operating points, so {point!r} is not available. Omit the option, "
            "or pack the checkpoint again with thresholds from `auscan evaluate --save-thresholds`."
        )
    points = config.operating_points.model_dump()
    if point not in points:
        raise InputError(f"{point!r} is not an operating point. Use one of: default, {', '.join(points)}.")
    return config.model_copy(update={"thresholds": points[point]})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run that change the results. Results store them; they are sent to worker processes."""

    operating_point: OperatingPoint = "default"
    """Operating point of the thresholds."""
    overlay: bool = False
    """Also write overlay.mp4."""
    report: bool = False
    """Also write report.html."""
    attributions: bool = False
    """Also write evidence.parquet."""
    as_video_hz: float | None = None
    """Frame rate at which a folder of numbered pictures is read as a video; None: folders are searched."""
    keep_all: bool = False
    """Also score faces that fail the quality check."""
    baseline: str = "none"
    """Neutral baseline of each face: none, median, or two times in seconds such as 2-5."""

    def stored(self) -> dict[str, Any]:
        """Return the values by the keys under which results store them."""
        return {"evidence" if key == "attributions" else key: value for key, value in asdict(self).items()}
