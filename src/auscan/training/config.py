"""Everything that a training run can be told, each setting explained right under it.

In: a YAML file or a dict.  Out: a `TrainConfig`; an unknown key is an error that names the nearest known one.
Plain data, no torch.  Not here: the sizes of the network itself (core/config.py).
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from auscan.core.config import (
    AlignmentConfig,
    FusionConfig,
    NetworkConfig,
    Settings,
    TemporalConfig,
    base,
    large,
    nano,
)
from auscan.core.errors import InputError
from auscan.training.metrics import Rule


class FoldConfig(Settings):
    """One of several folds, dealt by source video."""

    count: int = Field(ge=2)
    """Folds in all."""
    held_out: int = Field(ge=0)
    """The fold to validate on, counted from 0; the others are trained on."""
    seed: int = 0
    """Another seed deals other folds."""

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if self.held_out >= self.count:
            raise ValueError(f"held_out {self.held_out} is none of the folds 0 to {self.count - 1}")
        return self


class DataConfig(Settings):
    """What is learned from, validated on and scored."""

    index: Path
    """Folder that `auscan prepare` wrote."""
    cache: Path
    """Folder that `auscan extract` wrote."""
    train: tuple[str, ...] = ("train",)
    """Splits to learn from."""
    validate_on: tuple[str, ...] = ("val",)
    """Splits for early stopping and for the best checkpoint."""
    folds: FoldConfig | None = None
    """Pool both kinds of splits above and deal them anew."""
    score: tuple[str, ...] = ()
    """Further splits to write scores of in the end, such as test."""
    length: int | None = Field(default=300, ge=1)
    """Frames of a window; null takes whole tracks."""
    stride: int = Field(default=200, ge=1)
    """Frames from the start of a window to that of the next; the last one ends with the track."""
    margin: int | None = Field(default=None, ge=1)
    """Frames before and after a window that the memory reads first, without gradients or loss, so that it
    comes to the window knowing them; null: none. Only with the method's own memory."""
    context: int | None = Field(default=None, ge=1)
    """Frames that are known at a time when tracks are scored; null: the whole track."""
    balance: float = Field(default=0.5, ge=0, le=1)
    """1: every window once an epoch; 0: every source video equally often; between: in between."""
    shuffle_labels: bool = False
    """Deal the labels to frames at random. What such a network scores is chance."""


class ControlConfig(Settings):
    """Parts that take the place of the method's own, with about as many weights."""

    visual: Literal["alignment", "global"] = "alignment"
    """Granularity alignment, or the global token alone."""
    fusion: Literal["asymmetric", "symmetric", "concat", "none"] = "asymmetric"
    """Who asks whom: the face the voice, both each other, nobody (joined at each frame), or no fusion."""
    temporal: Literal["mamba", "tcn", "transformer", "bigru", "none"] = "mamba"
    """The memory over time; the transformer sees a window of frames around each, none sees its frame only."""
    guide: Literal["audio", "plain"] = "audio"
    """Whether the voice has a say in the memory."""


class EncoderConfig(Settings):
    """The visual encoder learns too, from the pictures of the index; the voice's tokens stay the cache's."""

    start: str
    """Whose weights it begins with, as for `auscan extract --model`: nano, base, large, or the folder of a
    checkpoint or of another such run. The cache must have been made with the same."""
    visual: str | None = None
    """With base or large: DINOv2's weights, a local folder or hub name, as for `auscan extract --visual`."""
    audio: str | None = None
    """With base or large: WavLM's weights, as for `auscan extract --audio`."""
    learn: Literal["all", "blocks", "lora"] = "all"
    """All of its weights, its last blocks with what follows them, or low-rank additions (DINOv2 only)."""
    blocks: int = Field(default=2, ge=1)
    """How many of the last blocks learn: transformer blocks, or residual blocks of nano's encoder."""
    rank: int = Field(default=8, ge=1)
    """Rank of the additions to each of DINOv2's matrices, with learn: lora."""
    rate_factor: float = Field(default=0.1, gt=0)
    """The encoder's learning rate, as a share of optimizer.rate."""
    augment: bool = True
    """Move, relight, blur and cover the crops at random, each window in its own way."""


class ModelConfig(Settings):
    """The network over the features, and under it the encoder where that is to learn."""

    size: Literal["nano", "base", "large"] = "base"
    """Where the sizes below come from if they are not given."""
    alignment: AlignmentConfig | None = None
    fusion: FusionConfig | None = None
    temporal: TemporalConfig | None = None
    controls: ControlConfig = ControlConfig()
    encoder: EncoderConfig | None = None
    """null: learn from features; otherwise from crops, end to end."""

    def network(self) -> NetworkConfig:
        """The settings of the parts, with those of the size where none are given."""
        of_size = {"nano": nano, "base": base, "large": large}[self.size]()
        given = {"alignment": self.alignment, "fusion": self.fusion, "temporal": self.temporal}
        return of_size.model_copy(update={name: part for name, part in given.items() if part is not None})


class LossConfig(Settings):
    """The weights of the losses; 0 leaves one out."""

    bce: float = Field(default=1.0, ge=0)
    """Binary cross-entropy, positives weighed by negatives over positives."""
    positive_cap: float = Field(default=10.0, ge=1)
    """The most that a positive may weigh."""
    asymmetric: float = Field(default=0.0, ge=0)
    """Asymmetric loss (Ridnik et al. 2021)."""
    gamma_positive: float = Field(default=0.0, ge=0)
    """How far sure positives are passed over by the asymmetric loss."""
    gamma_negative: float = Field(default=4.0, ge=0)
    """How far sure negatives are passed over by the asymmetric loss."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """Negatives with a probability below it do not count in the asymmetric loss."""
    soft_f1: float = Field(default=0.5, ge=0)
    """1 minus F1 of probabilities over the batch, also known as Dice loss."""
    alignment: float = Field(default=0.1, ge=0)
    """The contrastive loss between face and regions (model/alignment.py); only with visual: alignment."""
    alignment_frames: int = Field(default=4, ge=1)
    """Frames of each window that take part in it, spread evenly: neighbours look too much alike."""


class DropoutConfig(Settings):
    """Modalities that windows lose at random, so that the network copes without."""

    no_sound: float = Field(default=0.2, ge=0, le=1)
    """Share of windows that hear nothing."""
    other_sound: float = Field(default=0.0, ge=0, le=1)
    """Share of windows that hear the sound of another window, as with a voice from off screen."""
    no_face: float = Field(default=0.1, ge=0, le=1)
    """Share of windows that lose the face for a stretch."""
    no_face_length: float = Field(default=0.3, gt=0, lt=1)
    """The longest such stretch, as a share of the window."""


class OptimizerConfig(Settings):
    """How the weights are moved."""

    rate: float = Field(default=3e-4, gt=0)
    """Learning rate of AdamW after the warm-up; falls to 0 along a cosine."""
    weight_decay: float = Field(default=0.05, ge=0)
    """On matrices; biases, norms and decays have none."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of all steps in which the rate rises from 0."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    average: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of the weights, which is what is validated and kept; 0: the last weights."""


class LoopConfig(Settings):
    """How long, how much at a time, and where."""

    epochs: int = Field(default=20, ge=1)
    """Times through the training windows."""
    batch: int = Field(default=16, ge=1)
    """Windows in a process at a time; N processes make steps of N times as many."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients make one step."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better validation score after which to stop."""
    save_every: int = Field(default=200, ge=1)
    """Steps between two saves, beside the one after each epoch."""
    log_every: int = Field(default=20, ge=1)
    """Steps between two lines in the log."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes what accelerate finds: one or many GPUs, or the CPU."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; no is float32."""
    workers: int = Field(default=0, ge=0)
    """Processes that read windows ahead; 0 reads in between."""
    rule: Rule = "frame"
    """Which labels the validation score counts (training/metrics.py)."""


class TrainConfig(Settings):
    """One training run."""

    out: Path
    """Folder of the run; a run that was stopped goes on there."""
    seed: int = 0
    """Of weights, order of the data and dropout."""
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    dropout: DropoutConfig = DropoutConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loop: LoopConfig = LoopConfig()

    @model_validator(mode="after")
    def _check_margin(self) -> Self:
        controls = self.model.controls
        if self.data.margin is not None and (controls.temporal != "mamba" or controls.fusion == "symmetric"):
            raise ValueError("data.margin needs temporal: mamba, which has a state, and no symmetric fusion")
        return self


def read_train_config(path: Path) -> TrainConfig:
    """The settings in a YAML file; paths in it start at the current folder.

    Raises InputError where it cannot be read, has an unknown key, lacks one, or has an impossible value.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds no settings. It should begin with out: and data:, see docs/training.md."
        )
    return check_train_config(content, str(path))


def check_train_config(content: dict[str, Any], name: str) -> TrainConfig:
    """The settings in a dict; `name` is for the message. Raises InputError as `read_train_config` does."""
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{name}: {' '.join(map(_describe_error, error.errors()[:3]))}") from error


def _describe_error(error: Any) -> str:
    """One sentence about a fault that pydantic found."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg']}."
    *parents, key = map(str, error["loc"])
    known = list(_setting_paths(TrainConfig, ""))
    siblings = [path for path in known if path.rpartition(".")[0] == ".".join(parents)]
    nearest = difflib.get_close_matches(key, [path.rpartition(".")[2] for path in siblings], 1)
    if nearest:
        return f"there is no setting {path}. Did you mean {'.'.join([*parents, nearest[0]])}?"
    elsewhere = [path for path in known if path.rpartition(".")[2] == key]
    nearest = elsewhere or difflib.get_close_matches(path, known, 1, cutoff=0.0)
    return f"there is no setting {path}. The nearest is {nearest[0]}."


def _setting_paths(model: type[Settings], prefix: str) -> Iterator[str]:
    """Every setting by its path."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        types = getattr(field.annotation, "__args__", (field.annotation,))
        for each in types:
            if isinstance(each, type) and issubclass(each, Settings):
                yield from _setting_paths(each, f"{prefix}{name}.")
