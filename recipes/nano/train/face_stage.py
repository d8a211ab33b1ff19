"""Train stage 1 of nano: visual encoder, alignment and AU head on single faces.

Each face is a clip of one frame without audio. Besides the AUs, the encoder predicts the other blendshapes,
478 landmarks, five points, head pose and occluded share (auxiliary targets). The layers for blendshapes and
landmarks are dropped after training.

`freeze_variant` makes the ablated networks:

    whole-face-only    every gate of the alignment is 0, so local patches are not used
    no-audio           neither the fusion nor the scan uses audio

Inputs: `Faces`, `RenderedArrays`, `Frames`. Returns: a file of averaged weights in the run folder.
See also: face_batches.py (crops and augmentation), clip_stage.py (stage 2).
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import NetworkConfig
from auscan.faces.align import crop_face
from auscan.model.alignment import contrast_loss
from auscan.model.mamba import AudioCondition
from auscan.model.network import POSE_SCALE_DEG, AuscanNetwork, HeadOutput, VisualOutput
from auscan.training.losses import cover_loss, intensity_loss
from auscan.training.start import select_aus
from recipes.nano.data.real_clips import Frames
from recipes.nano.data.real_faces import Faces
from recipes.nano.render.rendered_faces import RenderedArrays
from recipes.nano.train.face_batches import FaceBatch, FaceBatches, development_crops

VARIANTS = ("full", "whole-face-only", "no-audio")
"""Names of the trained networks."""
NEW_PARTS = ("gate.", "contrast.", "own_response")
"""Parts of the alignment that are not taken from another checkpoint."""
_CLOSED_GATE = -1e4
"""Gate bias whose sigmoid is 0 in any precision."""


def freeze_variant(network: AuscanNetwork, variant: str) -> None:
    """Disable and freeze, in place, the parts that a variant leaves out.  variant: one of VARIANTS."""
    if variant == "whole-face-only":
        gate = network.visual.alignment.gate
        freeze_weight(gate.agreement, 0.0)
        freeze_weight(gate.evidence, 0.0)
        freeze_weight(gate.bias, _CLOSED_GATE)
    if variant == "no-audio":
        freeze_weight(network.temporal.fusion.out.weight, 0.0)
        for weight in network.temporal.late_path.visual.parameters():
            freeze_weight(weight, 0.0)
        for module in network.temporal.modules():
            if isinstance(module, AudioCondition):
                freeze_weight(module.proj.weight, 0.0)


@torch.no_grad()
def freeze_weight(parameter: Tensor, value: float) -> None:
    """Set a weight to a value and exclude it from training."""
    parameter.fill_(value).requires_grad_(False)


OCCLUSION_SCALE = 0.2
"""Scale of the occluded share in the loss: this error weighs as much as POSE_SCALE_DEG degrees."""


@dataclass(frozen=True)
class FaceSettings:
    """Settings of stage 1."""

    epochs: int = 6
    """Passes over the real faces."""
    batch: int = 64
    """Faces in a batch."""
    rendered: float = 0.4
    """Share of rendered faces in a batch."""
    frames: float = 0.25
    """Share of frames of clips in a batch. They show few people, each with many expressions."""
    rate: float = 5e-4
    """Learning rate of the weights that come from another checkpoint."""
    frozen_layers: int = 6
    """First layers of the encoder that keep the weights of another checkpoint: the stem and the blocks at
    56 x 56 and 28 x 28. What they detect is general, and a step takes 0.6 of the time."""
    new_factor: float = 4.0
    """Factor on the rate for weights that are new."""
    weight_decay: float = 0.05
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    average: float = 0.995
    """Decay of the exponential moving average of the weights. The average is the result."""
    seed: int = 0


class FaceTraining(nn.Module):
    """The network and the auxiliary layers of stage 1."""

    def __init__(
        self,
        config: NetworkConfig,
        blendshapes: int,
        variant: str = "full",
        start: AuscanNetwork | None = None,
    ) -> None:
        super().__init__()
        self.network = AuscanNetwork(config)
        self.started = set() if start is None else start_weights(self.network, start)
        self.network.visual.encoder.requires_grad_(True)  # a DINOv2 encoder is frozen by default
        freeze_variant(self.network, variant)
        width = self.network.visual.encoder.width
        self.shapes = nn.Linear(width, blendshapes)
        self.landmarks = nn.Linear(width, 478 * 2)

    def predict(self, crops: Tensor) -> tuple[VisualOutput, HeadOutput]:
        """Run visual stage and heads on grey crops [b, S, S] uint8; the head's output is [b, 1, A]."""
        rgb = crops[:, None, :, :, None].expand(-1, 1, -1, -1, 3)  # [b, 1, S, S, 3]
        output = self.network.visual(rgb)
        aligned = output.aligned
        return output, self.network.temporal.classify(aligned.embedding, aligned.au_tokens, None)

    def losses(self, batch: FaceBatch, mean_face: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss."""
        output, heads = self.predict(torch.from_numpy(batch.crops))
        face, logits, strengths = output.face[:, 0], heads.logits[:, 0], heads.intensity_logits
        assert strengths is not None, "nano has intensities"
        labels, soft = torch.from_numpy(batch.labels), torch.from_numpy(batch.soft)
        known = labels >= 0
        target = 0.5 * soft + 0.5 * labels.clamp_min(0)
        landmarks = (torch.from_numpy(batch.landmarks).flatten(1) - mean_face) / 10.0
        points = torch.from_numpy(batch.points) / 4.0
        return {
            "au": F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")[known].mean(),
            "shapes": 4.0 * masked_mean(F.mse_loss, self.shapes(face), torch.from_numpy(batch.blendshapes)),
            "landmarks": 0.5 * masked_mean(F.smooth_l1_loss, self.landmarks(face), landmarks),
            "points": 0.3 * masked_mean(F.smooth_l1_loss, output.points[:, 0] / 4.0, points),
            "pose_occlusion": 0.3
            * pose_occlusion_loss(output.pose_occlusion[:, 0].float(), batch.pose, batch.covered),
            "alignment": 0.02 * self.contrast(output, labels),
            "covers": 0.1 * cover_loss(output.aligned.gate_logits[:, 0], torch.from_numpy(batch.covers)),
            "intensity": 0.5 * intensity_loss(strengths[:, 0], torch.from_numpy(batch.intensities)),
        }

    def contrast(self, output: VisualOutput, labels: Tensor) -> Tensor:
        """Compute the contrast of faces and regions; frames with the same label are no negatives."""
        aligned = output.aligned
        views = self.network.visual.alignment.contrast(aligned.face[:, 0], aligned.local[:, 0])
        return contrast_loss(*views, (labels[:, None] == labels) & (labels >= 0))


def masked_mean(loss: Callable[..., Tensor], guess: Tensor, target: Tensor) -> Tensor:
    """Average a loss over the finite values of the target; 0 if there are none."""
    known = target.isfinite()
    off = loss(guess.float(), torch.where(known, target, guess.detach().float()), reduction="sum")
    return off / known.sum().clamp_min(1)


def pose_occlusion_loss(
    predicted: Tensor, pose: NDArray[np.float32], covered: NDArray[np.float32], weight: float | Tensor = 1.0
) -> Tensor:
    """Compute the smooth L1 loss of [b, 3] against head pose [b, 2] and occluded share [b].

    NaN targets are ignored.  weight: weight of each value, [b, 3].
    """
    target = torch.from_numpy(np.column_stack([pose, covered]).astype(np.float32))
    known = target.isfinite()
    scale = torch.tensor([POSE_SCALE_DEG, POSE_SCALE_DEG, OCCLUSION_SCALE])
    off = torch.where(known, predicted - target, 0.0) / scale
    loss = weight * F.smooth_l1_loss(off, torch.zeros_like(off), reduction="none")  # [b, 3]
    return loss.sum() / known.sum().clamp_min(1)


@torch.no_grad()
def start_weights(network: AuscanNetwork, start: AuscanNetwork) -> set[str]:
    """Copy encoders, alignment and head of another checkpoint. Return the names of the weights copied.

    It may have other AUs; those in both keep their weights. `NEW_PARTS` and the intensities are new: the
    gates of a checkpoint that was trained without covers are all open, and AUs of format 1 select the same
    patches.
    """
    au_names, had = network.config.au_names, start.config.au_names
    one_more = network.config.model_copy(update={"au_names": (*au_names, "one more")})
    larger = AuscanNetwork(one_more).state_dict()
    old, new = start.state_dict(), network.state_dict()
    copied = {
        name
        for name in new
        if name in old
        and name.startswith(("visual.", "audio.", "temporal.head."))
        and not name.startswith(tuple(f"visual.alignment.{part}" for part in NEW_PARTS))
    }
    for name in copied:
        new[name] = select_aus(old[name], new[name], larger[name].shape, had, au_names)
    network.load_state_dict(new)
    return copied


def train_faces(
    faces: Faces,
    rendered: RenderedArrays | None,
    frames: Frames | None,
    config: NetworkConfig,
    settings: FaceSettings,
    run: Path,
    variant: str = "full",
    start: AuscanNetwork | None = None,
    held_out: RenderedArrays | None = None,
) -> Path:
    """Train, or resume an interrupted run. Return the file with the averaged weights.

    rendered, frames: None trains without them.  variant: one of VARIANTS.
    held_out: rendered faces that are scored after each epoch; None for none.
    start: network with the initial visual stage and head; the other weights are initialised at random.
    """
    torch.manual_seed(settings.seed)
    model = FaceTraining(config, faces.blendshapes.shape[1], variant, start)
    model = model.to(memory_format=torch.channels_last)
    frozen = model.network.visual.encoder.layers[: settings.frozen_layers if start else 0]
    frozen.requires_grad_(False)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average), use_buffers=True
    )
    optimizer = torch.optim.AdamW(rate_groups(model, settings))
    batches = FaceBatches(
        faces, settings.batch, settings.seed, rendered, settings.rendered, frames, settings.frames
    )
    total = settings.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, settings.warmup_steps, total)
    )
    parts = {"model": model, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    first = resume(run / "faces.pt", parts)
    mean_face = torch.from_numpy(mean_landmarks(batches))
    active = model.network.visual.alignment.active
    for epoch in range(first, settings.epochs):
        started, sums = time.monotonic(), dict[str, float]()
        model.train()
        frozen.eval()  # their normalisation keeps its statistics
        for step, batch in enumerate(batches.epoch(epoch), epoch * len(batches)):
            model.network.visual.alignment.anneal_selection(active, step / total)
            losses = model.losses(batch, mean_face)
            optimizer.zero_grad()
            sum(losses.values(), torch.zeros(())).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss) / len(batches)
        scores = development_auc(averaged.module, faces)
        if held_out is not None:
            scores |= rig_auc(averaged.module, held_out)
        log(run / "faces.jsonl", epoch=epoch, seconds=time.monotonic() - started, **sums, **scores)
        save(run / "faces.pt", parts, epoch + 1)
    weights = run / "faces_averaged.pt"
    torch.save(averaged.module.network.state_dict(), weights)
    return weights


def rate_groups(model: FaceTraining, settings: FaceSettings) -> list[dict[str, object]]:
    """Group the weights by rate: those of another checkpoint, and new ones."""
    old, new = nn.ParameterDict(), nn.ParameterDict()
    for name, weight in model.named_parameters():
        came = name.removeprefix("network.") in model.started
        if weight.requires_grad:
            (old if came or not model.started else new)[name.replace(".", "_")] = weight
    rates = ((old, settings.rate), (new, settings.rate * settings.new_factor))
    return [
        {**group, "lr": rate}
        for part, rate in rates
        for group in parameter_groups(part, settings.weight_decay)
        if group["params"]
    ]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Apply weight decay to matrices, not to biases, norms and scales."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor on the learning rate: linear warm-up, cosine decay."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def mean_landmarks(batches: FaceBatches) -> NDArray[np.float32]:
    """Mean landmarks of 256 crops, flattened: [956] crop px."""
    mean: NDArray[np.float32] = (
        batches.crop_real(batches.rows[:256], np.random.default_rng(0)).landmarks.mean(axis=0).reshape(-1)
    )
    return mean


@torch.no_grad()
def predict_crops(model: FaceTraining, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute logits [n, A] of grey crops [n, 112, 112], in evaluation mode."""
    model.eval()
    parts = [
        model.predict(torch.from_numpy(crops[i : i + 128]))[1].logits[:, 0] for i in range(0, len(crops), 128)
    ]
    return torch.cat(parts).float().numpy()


def development_auc(model: FaceTraining, faces: Faces) -> dict[str, float]:
    """Compute ROC-AUC against the teacher on the development identities: each AU, and their mean."""
    crops, labels = development_crops(faces)
    logits = predict_crops(model, crops)
    aucs = {}
    for column, name in enumerate(model.network.config.au_names):
        known = labels[:, column] >= 0
        if known.any():
            aucs[name] = float(roc_auc_score(labels[known, column], logits[known, column]))
    direct = [v for k, v in aucs.items() if k != "AU06"]
    return {"mean_auc": float(np.mean(direct)), **aucs}


def rig_auc(model: FaceTraining, rendered: RenderedArrays) -> dict[str, float]:
    """Compute ROC-AUC on rendered faces that were found: each AU, and means over all and over twelve."""
    rows = np.flatnonzero(rendered.found)
    crops = np.stack([crop_face(rendered.images[i], rendered.detector_points[i]) for i in rows])
    logits, labels = predict_crops(model, crops), rendered.labels[rows]
    names = model.network.config.au_names
    aucs = {
        name: float(roc_auc_score(labels[labels[:, j] >= 0, j], logits[labels[:, j] >= 0, j]))
        for j, name in enumerate(names)
    }
    twelve = float(np.mean([aucs[name] for name in AFFWILD2_AUS]))
    means = {"rig_auc": float(np.mean([*aucs.values()])), "rig_auc_of_twelve": twelve}
    return means | {f"rig_{name}": auc for name, auc in aucs.items()}


def log(file: Path, **values: float) -> None:
    """Append the values, rounded to four places, as a JSON line to the file, and print it."""
    line = json.dumps({k: round(v, 4) for k, v in values.items()})
    with file.open("a") as out:
        out.write(line + "\n")
    print(line, flush=True)


def save(file: Path, parts: dict[str, object], epoch: int) -> None:
    """Write the training state after `epoch` epochs; an interrupted write keeps the old file."""
    state = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
    torch.save({**state, "epoch": epoch}, file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def resume(file: Path, parts: dict[str, object]) -> int:
    """Load a state written by `save`. Return the number of finished epochs; 0 if there is no file."""
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])  # type: ignore[attr-defined]
    return int(state["epoch"])
