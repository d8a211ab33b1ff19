"""Combine encoders and a trained network into a checkpoint for `auscan detect`.

A run folder contains the trained network only; the encoders that made its features are stored elsewhere.

Inputs: the folder of a run. Returns: the folder of a checkpoint (core/checkpoint_folder.py).
See also: find_encoders.py (finds the encoders), model/checkpoint.py (writes checkpoints).
"""

from pathlib import Path

import numpy as np
from torch import nn

from auscan.core.config import MAX_INTENSITY, CheckpointConfig
from auscan.core.environment import VERSION
from auscan.core.errors import InputError
from auscan.datasets.frozen_encoders import Encoders, Sources
from auscan.inference.score_track import calibrate, to_logits
from auscan.model.checkpoint import save_checkpoint
from auscan.model.network import AuscanNetwork
from auscan.training.config import ControlConfig
from auscan.training.find_encoders import encoders_of
from auscan.training.module import FeatureNetwork
from auscan.training.run import TrainedConfig, find_trained, load_trained
from auscan.training.thresholds import Decision

CARD = """# {name}

Packed by `auscan pack` from a network that `auscan train` wrote at step {step}.

- Encoders: {encoders}.
- Mean F1 on its validation split at 0.5: {score}.
- Active patches: {patches}.
- Training crops: {crops}.
- Untrained AUs, always empty: {untrained_aus}.
- Intensities: {intensities}.
- Calibrated by Platt scaling: {calibrated}.
- Thresholds: {thresholds}.
- Refinement of the five face points: {points}.
- Head pose and occlusion: {pose_occlusion}.
"""


def pack(
    run: Path,
    out: Path,
    decision: Decision | None = None,
    name: str | None = None,
    model: str | None = None,
    visual: Sources = None,
    audio: Sources = None,
) -> CheckpointConfig:
    """Write the checkpoint of a run, or of its best/ or last/, into `out`; returns its config.

    decision: thresholds, calibration and operating points to store; None: thresholds of 0.5 only.
    name: the model's id; None: the name of `out`.
    model, visual, audio: encoders of its features, if the run found them elsewhere.

    Raises InputError for a run with controls, which a checkpoint cannot store, for one that selects nothing,
    and for other encoders; CheckpointError if there is no trained network.
    """
    trained = find_trained(run) or run
    network, trained_config = load_trained(trained)
    changed = trained_config.controls.model_dump(exclude_defaults=True)
    if trained_config.controls != ControlConfig():
        controls = ", ".join(f"{part}: {kind}" for part, kind in changed.items())
        raise InputError(
            f"{trained} was trained with controls ({controls}), which a checkpoint cannot store. To use its "
            "fine-tuned encoder, pass the folder to auscan extract --model."
        )
    _check_selection(trained, trained_config)
    encoders = encoders_of(network, trained_config, model, visual, audio)
    joined = _join_encoders(network, trained_config, encoders)
    decision = (decision or Decision(trained_config.au_names)).for_aus(trained_config.au_names)
    config = CheckpointConfig(
        name=name or out.resolve().name,
        untrained_aus=trained_config.untrained_aus,
        untrained_intensities=trained_config.untrained_intensities,
        has_pose_occlusion=encoders.pose_occlusion is not None,
        calibration=decision.calibration,
        thresholds=to_calibrated_thresholds(decision),
        operating_points=decision.operating_points,
        licence="not stated",
        auscan_version=VERSION,
        network=joined.config,
    )
    save_checkpoint(out, joined, config, _card(config, trained_config, encoders))
    return config


def _check_selection(trained: Path, trained_config: TrainedConfig) -> None:
    """Raise InputError if the network keeps all patches, as those of auscan 0.1.0 could."""
    alignment, count = trained_config.network.alignment, trained_config.sizes.grid**2
    if alignment.active_count(count) == count:
        raise InputError(
            f"{trained} keeps k = {alignment.active_patches} patches a frame, but its features have "
            f"N = {count}, so it selects nothing. Train it again: without model.alignment.active_patches it "
            f"keeps a share of {alignment.active_share}. To pack it as it is, use the version of auscan that "
            "trained it."
        )


def to_calibrated_thresholds(decision: Decision) -> tuple[float, ...]:
    """Convert the thresholds of a decision, which apply to raw scores, to calibrated probabilities."""
    if decision.calibration is None:
        return decision.thresholds
    logits = to_logits(np.asarray(decision.thresholds))
    return tuple(calibrate(logits, decision.calibration).tolist())


def _join_encoders(
    network: FeatureNetwork, trained_config: TrainedConfig, encoders: Encoders
) -> AuscanNetwork:
    """Build the complete network with all weights.

    The layers for points and for head pose and occlusion are valid only for the tokens they were trained on.
    A fine-tuned encoder has neither, and their weights are then 0: the detector's points are kept.
    """
    grid = None if trained_config.sizes.grid == encoders.grid else trained_config.sizes.grid
    update = {"visual": encoders.config.visual, "audio": encoders.config.audio, "grid": grid}
    joined = AuscanNetwork(trained_config.network.model_copy(update=update))
    joined.visual.encoder.load_state_dict(encoders.visual.state_dict())
    joined.audio.load_state_dict(encoders.audio.state_dict())
    joined.visual.mix.load_state_dict(network.visual_mix.state_dict())
    joined.audio_mix.load_state_dict(network.audio_mix.state_dict())
    joined.visual.alignment.load_state_dict(network.alignment.state_dict())
    joined.temporal.load_state_dict(network.temporal.state_dict())
    for layer, trained in (
        (joined.visual.points, encoders.points),
        (joined.visual.pose_occlusion, encoders.pose_occlusion),
    ):
        if trained is None:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        else:
            layer.load_state_dict(trained.state_dict())
    return joined.eval()


def _describe_crops(enlarged_from: int | None, crop_size: int) -> str:
    if enlarged_from is None:
        return f"{crop_size} px, not known to be enlarged"
    return (
        f"pictures of {enlarged_from} px enlarged to {crop_size} px; `auscan detect` cuts {crop_size} px "
        "from the frame, which is sharper"
    )


def _describe_intensities(config: CheckpointConfig) -> str:
    if not config.network.intensity:
        return "none"
    untrained = ", ".join(config.untrained_intensities)
    return f"0 to {MAX_INTENSITY:g}" + (f", without {untrained}" if untrained else "")


def _card(config: CheckpointConfig, trained_config: TrainedConfig, encoders: Encoders) -> str:
    score = "not known" if trained_config.score is None else f"{trained_config.score:.4f}"
    count = trained_config.sizes.grid**2
    by_name = zip(config.au_names, config.thresholds, strict=True)
    return CARD.format(
        name=config.name,
        step=trained_config.step,
        encoders=encoders.name,
        score=score,
        patches=f"k = {trained_config.network.alignment.active_count(count)} of N = {count}",
        crops=_describe_crops(trained_config.enlarged_from, encoders.crop_size),
        untrained_aus=", ".join(config.untrained_aus) or "none",
        intensities=_describe_intensities(config),
        calibrated="no" if config.calibration is None else "on the scores of the thresholds",
        thresholds=", ".join(f"{au} {threshold:.3f}" for au, threshold in by_name),
        points="no (no trained layer)" if encoders.points is None else "yes",
        pose_occlusion="no (no trained layer)" if encoders.pose_occlusion is None else "yes",
    )
