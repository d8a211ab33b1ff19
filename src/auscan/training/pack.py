"""Put encoders and a trained network together into a checkpoint that `auscan detect` reads.

A run holds what it taught; the encoders that made its features are elsewhere. Here they meet again.

In: the folder of a run.  Out: the folder of a checkpoint (core/checkpoint_folder.py).
Not here: finding the encoders (find_encoders.py), writing checkpoints (model/checkpoint.py).
"""

from pathlib import Path

import numpy as np
from torch import nn

from auscan.core.config import UNCALIBRATED, CheckpointConfig
from auscan.core.environment import VERSION
from auscan.core.errors import InputError
from auscan.datasets.features import Encoders
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
- Never taught, so always empty: {untrained_aus}.
- Calibrated by Platt scaling: {calibrated}.
- Thresholds: {thresholds}.
- The five points of a face: {points}.
- Head pose and cover: {pose_occlusion}.
"""


def pack(
    run: Path,
    out: Path,
    decision: Decision | None = None,
    name: str | None = None,
    model: str | None = None,
    visual: str | None = None,
    audio: str | None = None,
) -> CheckpointConfig:
    """Write the checkpoint of a run, or of its best/ or last/, into `out`; returns its config.

    decision: thresholds, calibration and operating points to store; without, 0.5 and nothing else.
    name: the model's id, without it the name of `out`.
    model, visual, audio: where the encoders of its features are, if not where the run found them.

    Raises InputError for a run with controls, which no checkpoint can hold, and for other encoders;
    CheckpointError where there is no trained network.
    """
    trained = find_trained(run) or run
    network, trained_config = load_trained(trained)
    changed = trained_config.controls.model_dump(exclude_defaults=True)
    if trained_config.controls != ControlConfig():
        controls = ", ".join(f"{part}: {kind}" for part, kind in changed.items())
        raise InputError(
            f"{trained} was trained with controls ({controls}), which no checkpoint has a place for. To use "
            "the encoder that it taught: auscan extract --model takes the folder as it is."
        )
    encoders = encoders_of(network, trained_config, model, visual, audio)
    joined = _join_encoders(network, trained_config, encoders)
    decision = decision or Decision()
    config = CheckpointConfig(
        name=name or out.resolve().name,
        untrained_aus=trained_config.untrained_aus,
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


def to_calibrated_thresholds(decision: Decision) -> tuple[float, ...]:
    """Those of the decision are for scores as the network gave them; a checkpoint's for calibrated ones."""
    if decision.calibration == UNCALIBRATED:
        return decision.thresholds
    logits = to_logits(np.asarray(decision.thresholds))
    return tuple(calibrate(logits, decision.calibration).tolist())


def _join_encoders(
    network: FeatureNetwork, trained_config: TrainedConfig, encoders: Encoders
) -> AuscanNetwork:
    """All weights under one roof; without a layer for the points, those of the detector stand.

    The layers for points and sight hold for the tokens they were taught on; an encoder that has learned
    since brings neither, and theirs are zeros.
    """
    grid = None if trained_config.sizes.grid == encoders.grid else trained_config.sizes.grid
    update = {"visual": encoders.config.visual, "audio": encoders.config.audio, "grid": grid}
    joined = AuscanNetwork(trained_config.network.model_copy(update=update))
    joined.visual.encoder.load_state_dict(encoders.visual.state_dict())
    joined.audio.load_state_dict(encoders.audio.state_dict())
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


def _card(config: CheckpointConfig, trained_config: TrainedConfig, encoders: Encoders) -> str:
    score = "not known" if trained_config.score is None else f"{trained_config.score:.4f}"
    by_name = zip(config.au_names, config.thresholds, strict=True)
    return CARD.format(
        name=config.name,
        step=trained_config.step,
        encoders=encoders.name,
        score=score,
        untrained_aus=", ".join(config.untrained_aus) or "none",
        calibrated="no" if config.calibration == UNCALIBRATED else "on the scores of the thresholds",
        thresholds=", ".join(f"{au} {threshold:.3f}" for au, threshold in by_name),
        points="not refined: no layer was taught that" if encoders.points is None else "refined",
        pose_occlusion="not told: no layer was taught that" if encoders.pose_occlusion is None else "told",
    )
