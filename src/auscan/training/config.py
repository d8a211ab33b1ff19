"""Define the settings of a training run and read them from YAML.

Each setting is explained right under it. An unknown key is an error that names the nearest known one. Plain
data, no torch.

Inputs: a YAML file or a dict. Returns: a `TrainConfig`.
See also: core/config.py (sizes of the network).
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from auscan.core.aus import check_au_names
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
    """One fold of a cross-validation. Folds are split by source video."""

    count: int = Field(ge=2)
    """Number of folds."""
    held_out: int = Field(ge=0)
    """Fold to validate on, counted from 0. The other folds are the training data."""
    seed: int = 0
    """Seed of the assignment of source videos to folds."""

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if self.held_out >= self.count:
            raise ValueError(f"held_out is {self.held_out}, but the folds are numbered 0 to {self.count - 1}")
        return self


class FurtherDataConfig(Settings):
    """A further data set to train on, such as DISFA or BP4D beside Aff-Wild2.

    Its labels are matched by the names of the AUs. AUs that it does not code have labels of -1, which are in
    no loss.
    """

    index: Path
    """Folder written by `auscan prepare`."""
    cache: Path
    """Folder written by `auscan extract`, with the same encoders and grid."""
    train: tuple[str, ...] = Field(min_length=1)
    """Splits to train on, such as fold1, fold2 and fold3 of DISFA."""


class DataConfig(Settings):
    """Data to train on, to validate on and to score."""

    index: Path
    """Folder written by `auscan prepare`."""
    cache: Path
    """Folder written by `auscan extract`."""
    more: tuple[FurtherDataConfig, ...] = ()
    """Further data sets to train on. Validation, folds and scores are those of `index` alone."""
    au_names: tuple[str, ...] | None = None
    """AUs to train, in the order of the outputs. null: those of `index`. List them to leave out some, or to
    add AUs that only the data sets in `more` code."""
    train: tuple[str, ...] = ("train",)
    """Splits to train on."""
    validate_on: tuple[str, ...] = ("val",)
    """Splits for early stopping and for the choice of the best checkpoint."""
    folds: FoldConfig | None = None
    """Pool the splits of `train` and `validate_on` and split them anew into folds."""
    score: tuple[str, ...] = ()
    """Further splits to score after training, such as test."""
    length: int | None = Field(default=300, ge=1)
    """Frames of a window; null uses whole tracks."""
    stride: int = Field(default=200, ge=1)
    """Frames from the start of one window to the start of the next. The last window ends with its track."""
    margin: int | None = Field(default=None, ge=1)
    """Context frames before and after a window. The temporal model scans them without gradients or loss, so
    that its state at the window includes them. null: none. Requires temporal: mamba."""
    context: int | None = Field(default=None, ge=1)
    """Frames of a chunk that is scored on its own when tracks are scored; null scores whole tracks."""
    balance: float = Field(default=0.5, ge=0, le=1)
    """Sampling of windows. 1: every window once an epoch; 0: every source video equally often; values in
    between interpolate."""
    shuffle_labels: bool = False
    """Assign the labels to frames at random. The score of such a network is chance level."""

    @field_validator("au_names")
    @classmethod
    def _check_au_names(cls, au_names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        try:
            return None if au_names is None else check_au_names(au_names)
        except InputError as error:
            raise ValueError(str(error).removesuffix(".")) from error


class ControlConfig(Settings):
    """Controls: replacements for parts of the network, with about as many weights."""

    visual: Literal["alignment", "all", "global"] = "alignment"
    """alignment: granularity alignment; all: without selection, each AU attends to all patches; global: the
    global token alone."""
    fusion: Literal["asymmetric", "symmetric", "concat", "none"] = "asymmetric"
    """asymmetric: face attends to audio; symmetric: both attend to each other; concat: both concatenated
    frame by frame; none: no fusion."""
    temporal: Literal["mamba", "tcn", "transformer", "bigru", "none"] = "mamba"
    """Temporal model. The transformer attends to a window of frames around each frame; none uses each frame
    alone."""
    guide: Literal["audio", "plain"] = "audio"
    """Whether the temporal model is conditioned on audio."""
    late_path: bool = True
    """Whether the late path adds audio logits (model/late_path.py)."""


class EncoderConfig(Settings):
    """Fine-tuning of the visual encoder on the crops of the index. Audio tokens come from the cache."""

    start: str
    """Initial weights, as for `auscan extract --model`: nano, base, large, or the folder of a checkpoint or
    of another such run. The cache must have been made with the same encoders."""
    visual: str | tuple[str, ...] | None = None
    """With base or large: visual weights, a local folder or hub name or a list of them, as for
    `auscan extract --visual`."""
    audio: str | tuple[str, ...] | None = None
    """With base or large: audio weights, as for `auscan extract --audio`."""
    learn: Literal["all", "blocks", "lora"] = "all"
    """Weights to train: all, the last blocks and the layers after them, or low-rank adapters
    (transformers only)."""
    blocks: int = Field(default=2, ge=1)
    """Number of last blocks to train, with learn: blocks. Transformer blocks, or residual blocks of nano's
    encoder."""
    rank: int = Field(default=8, ge=1)
    """Rank of the adapter of each matrix of the transformer, with learn: lora."""
    rate_factor: float = Field(default=0.1, gt=0)
    """Learning rate of the encoder as a share of optimizer.rate."""
    recompute: bool = False
    """Recompute the activations of transformer blocks in the backward pass (gradient checkpointing): less
    memory, about a third more time."""
    augment: bool = True
    """Augment the crops: random geometry, tone, blur, noise and occlusion, drawn once per window."""


class ModelConfig(Settings):
    """The network over the features, and the encoder if it is fine-tuned."""

    size: Literal["nano", "base", "large"] = "base"
    """Source of the sizes below that are not given."""
    alignment: AlignmentConfig | None = None
    fusion: FusionConfig | None = None
    temporal: TemporalConfig | None = None
    controls: ControlConfig = ControlConfig()
    encoder: EncoderConfig | None = None
    """null: train on features; otherwise on crops, end to end."""
    start_from: Path | None = None
    """Folder of another run, or of its best/ or last/, or a checkpoint such as nano, whose weights are the
    initial ones. It must have the same sizes, controls and encoders; the AUs of a checkpoint may differ."""

    def network(self) -> NetworkConfig:
        """Return the settings of the network; parts that are not given have the settings of the size.

        The number of active patches is then a share of those in the features: the number that `nano` has
        belongs to the grid of the shipped model.
        """
        of_size = {"nano": nano, "base": base, "large": large}[self.size]()
        alignment = of_size.alignment.model_copy(update={"active_patches": None})
        of_size = of_size.model_copy(update={"alignment": alignment})
        given = {"alignment": self.alignment, "fusion": self.fusion, "temporal": self.temporal}
        return of_size.model_copy(update={name: part for name, part in given.items() if part is not None})


class LossConfig(Settings):
    """Weights and settings of the losses. A weight of 0 leaves a loss out."""

    bce: float = Field(default=1.0, ge=0)
    """Binary cross-entropy; positives are weighted by negatives over positives."""
    positive_cap: float = Field(default=10.0, ge=1)
    """Largest weight of a positive."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Probability of the wrong label in the targets of `bce`: they are this and 1 minus this, not 0 and 1."""
    asymmetric: float = Field(default=0.0, ge=0)
    """Asymmetric loss (Ridnik et al. 2021)."""
    gamma_positive: float = Field(default=0.0, ge=0)
    """Focusing exponent of positives in the asymmetric loss."""
    gamma_negative: float = Field(default=4.0, ge=0)
    """Focusing exponent of negatives in the asymmetric loss."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """Probability margin of negatives in the asymmetric loss: negatives with a probability below it have no
    loss."""
    soft_f1: float = Field(default=0.5, ge=0)
    """1 minus the F1 of probabilities over the batch, also called Dice loss."""
    alignment: float = Field(default=0.1, ge=0)
    """Contrastive loss between face and regions (model/alignment.py); only with visual: alignment."""
    alignment_frames: int = Field(default=4, ge=1)
    """Frames of each window in the alignment loss, spread evenly because adjacent frames are nearly equal."""
    covers: float = Field(default=0.1, ge=0)
    """Binary cross-entropy of the gates, for regions that are known to be covered or visible; only with
    visual: alignment or all, and only for data sets with the columns AU01_covered and so on."""
    intensity: float = Field(default=0.5, ge=0)
    """Binary cross-entropy of intensities as shares of 5; only for data sets with the columns AU01_r and so
    on. A network has intensities if its training data have them and this is above 0."""


class DropoutConfig(Settings):
    """Modality dropout: windows lose audio or face at random, so that the network works without them."""

    no_sound: float = Field(default=0.2, ge=0, le=1)
    """Share of windows without audio."""
    other_sound: float = Field(default=0.0, ge=0, le=1)
    """Share of windows with the audio of another window, as with off-screen speech."""
    no_face: float = Field(default=0.1, ge=0, le=1)
    """Share of windows in which a range of frames loses the face."""
    no_face_length: float = Field(default=0.3, gt=0, lt=1)
    """Largest length of that range, as a share of the window."""


class OptimizerConfig(Settings):
    """Settings of AdamW and of the weight average."""

    rate: float = Field(default=3e-4, gt=0)
    """Learning rate of AdamW after the warm-up; decays to 0 along a cosine."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of matrices. Biases, norms and the decays of the scan have none."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of all steps in which the rate rises from 0."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    average: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is validated and saved. 0: use the last
    weights."""


class LoopConfig(Settings):
    """Length of the training, batch sizes, device and logging."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the training windows."""
    batch: int = Field(default=16, ge=1)
    """Windows in a batch of one process. With N processes a step has N times as many."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are accumulated in one step."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better validation score before training stops."""
    save_every: int = Field(default=200, ge=1)
    """Steps between two saves of the state, which is also saved after each epoch."""
    log_every: int = Field(default=20, ge=1)
    """Steps between two lines of the log."""
    device: Literal["auto", "cpu"] = "auto"
    """auto uses the device that accelerate finds: one or several GPUs, or the CPU."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Mixed precision; no is float32, auto is bf16 on a GPU that supports it and float32 elsewhere."""
    workers: int = Field(default=0, ge=0)
    """Processes that load windows in advance; 0 loads them in the training process."""
    rule: Rule = "frame"
    """Labels that count in the validation score (training/metrics.py)."""
    stop_at: Literal["fixed", "tuned"] = "fixed"
    """Thresholds of the validation score that chooses the best epoch and stops the run. fixed: 0.5; tuned:
    for each AU the threshold of best F1 on the validation tracks. The log has both scores."""


class TrainConfig(Settings):
    """Settings of one training run."""

    out: Path
    """Folder of the run. An interrupted run resumes from it."""
    seed: int = 0
    """Seed of the weights, the order of the data and the dropout."""
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
            raise ValueError("data.margin needs temporal: mamba and a fusion other than symmetric")
        return self


def read_train_config(path: Path) -> TrainConfig:
    """Read settings from a YAML file. Paths in it are relative to the current folder.

    Raises InputError if the file cannot be read, has an unknown key, lacks a required one, or has an invalid
    value.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} contains no settings. It should have the keys out and data, see docs/training.md."
        )
    return check_train_config(content, str(path))


def check_train_config(content: dict[str, Any], name: str) -> TrainConfig:
    """Validate settings given as a dict; `name` is for messages. Raises InputError."""
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{name}: {' '.join(map(_describe_error, error.errors()[:3]))}") from error


def _describe_error(error: Any) -> str:
    """Return one sentence about an error of pydantic."""
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
    """Yield the path of every setting, such as data.folds.count."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        types = getattr(field.annotation, "__args__", (field.annotation,))
        for each in types:
            if isinstance(each, type) and issubclass(each, Settings):
                yield from _setting_paths(each, f"{prefix}{name}.")
