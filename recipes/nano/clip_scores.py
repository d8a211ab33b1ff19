"""What stage 2 is chosen by: agreement with the teacher on clips that no step sees, mouths free and covered.

In: a network, tracks.  Out: a few numbers.
Not here: what benchmarks report on (clip_data.HELD_OUT).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from auscan.core.aus import AU_NAMES
from auscan.core.config import TOKEN_HOP
from auscan.model.network import AuscanNetwork, Sound
from clip_data import DEVELOPMENT, ClipTrack
from clip_windows import Features, cover_mouth, features_of, token_offsets_s

MOUTH = [AU_NAMES.index("AU25"), AU_NAMES.index("AU26")]
"""What a voice tells of."""
SHARPER = 1.6
"""Labels are sharper than soft targets, so calibration stretches logits by about this factor."""
SURE = 1e-5
"""Soft targets count as no surer than this where they are turned back into the scores they came from."""
VARIES = 0.05
"""The teacher varies where its soft targets have at least this standard deviation."""


@dataclass(frozen=True)
class Kept:
    """A track that no step sees, with its features as it is and with its mouth covered from end to end."""

    track: ClipTrack
    free: Features
    covered: Features


def development_tracks(network: AuscanNetwork, tracks: list[ClipTrack]) -> list[Kept]:
    """The tracks of DEVELOPMENT that the teacher scored."""
    kept = []
    for track in tracks:
        if track.clip in DEVELOPMENT and (track.labels >= 0).any():
            hidden = cover_mouth(track, np.random.default_rng(0))
            kept.append(
                Kept(track, features_of(network, track.crops, True), features_of(network, hidden, True))
            )
    return kept


@torch.no_grad()
def clip_logits(
    network: AuscanNetwork, track: ClipTrack, features: Features, heard: ClipTrack | None
) -> NDArray[np.float32]:
    """Logits [T, 12] of a whole track, with the sound of itself, of another or of none."""
    sound = None
    if heard is not None and len(heard.sound) >= TOKEN_HOP:
        tokens = network.audio(torch.from_numpy(heard.sound)[None])
        count = tokens.shape[1]
        times_s = heard.sound_start_s + token_offsets_s(count)
        sound = Sound(tokens, times_s[None], torch.ones(1, count, dtype=torch.bool))
    frames_s = torch.from_numpy(track.times_s)
    logits = network.temporal.follow_long(features.embedding, features.au_tokens, frames_s, sound)
    out: NDArray[np.float32] = logits.numpy()
    return out


def development_scores(network: AuscanNetwork, kept: list[Kept]) -> dict[str, float]:
    """Agreement with the teacher on the development clips.

    clip_auc: pooled AUC.  within: mean correlation within a clip, of probability and score.
    heard_own, heard_none, heard_other: pooled AUC of AU25 and AU26 with the mouth covered, by what is heard.
    AU06 is left out: its labels are a sign and not a score.
    """
    network.eval()
    labels = np.concatenate([each.track.labels for each in kept])
    free = [clip_logits(network, each.track, each.free, each.track) for each in kept]
    direct = [j for j, name in enumerate(AU_NAMES) if name != "AU06"]
    scores = {"clip_auc": mean_auc(labels, np.concatenate(free), direct), "within": within_clip(kept, free)}
    others = [kept[k - 1].track for k in range(len(kept))]
    for name, heard in (("own", [k.track for k in kept]), ("none", [None] * len(kept)), ("other", others)):
        logits = [
            clip_logits(network, each.track, each.covered, whose)
            for each, whose in zip(kept, heard, strict=True)
        ]
        scores[f"heard_{name}"] = mean_auc(labels, np.concatenate(logits), MOUTH)
    return scores


def mean_auc(labels: NDArray[np.int8], logits: NDArray[np.float32], columns: list[int]) -> float:
    """Over those columns in which both classes are known."""
    aucs = []
    for column in columns:
        known = labels[:, column] >= 0
        if known.any() and 0 < labels[known, column].mean() < 1:
            aucs.append(float(roc_auc_score(labels[known, column], logits[known, column])))
    return float(np.mean(aucs))


def within_clip(kept: list[Kept], logits: list[NDArray[np.float32]]) -> float:
    """Mean over tracks and AUs in which the teacher varies."""
    found = []
    for each, values in zip(kept, logits, strict=True):
        for column, name in enumerate(AU_NAMES):
            mine = each.track.labels[:, column] >= 0
            soft = each.track.soft[mine, column]
            if name != "AU06" and mine.sum() > 30 and soft.std() > VARIES:
                score = logit(np.clip(soft, SURE, 1 - SURE))
                found.append(np.corrcoef(score, expit(SHARPER * values[mine, column]))[0, 1])
    return float(np.mean(found))
