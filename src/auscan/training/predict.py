"""Score whole tracks with a trained network, and hold the scores against the labels.

Every track is read as one, of any length: the memory carries its state from stretch to stretch. To learn what
that is worth, the context can be cut down to stretches of a few frames.

In: a network and tracks (windows.py).  Out: a table of scores (scores.py), the mean F1.
Not here: intervals, thresholds and the rest of an evaluation (evaluation.py).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.training.metrics import Rule, count
from auscan.training.module import FeatureNetwork
from auscan.training.smoothing import final_scores
from auscan.training.windows import LabelledTrack, collate, cut

THRESHOLD = 0.5
"""At which the validation score is taken: tuned ones would follow its noise."""


FRAMES_AT_ONCE = 1024
"""Frames of all stretches that are scored together; changes no result."""


def score_tracks(
    network: FeatureNetwork, tracks: Sequence[LabelledTrack], context: int | None, margin_s: float
) -> pd.DataFrame:
    """A row for every frame of every track; NaN where it has no picture.

    context: frames of a stretch that is read on its own, None for whole tracks
    margin_s: how far a stretch hears beyond its ends, at least the fusion's reach
    """
    network.eval()
    tables = []
    for track in tracks:
        if context is None:
            probabilities = network.follow_track(track.features, track.crops)
        else:
            probabilities = _in_stretches(network, track, context, margin_s)
        tables.append(_table(track, probabilities))
    return pd.concat(tables, ignore_index=True)


def mean_f1(scores: pd.DataFrame, tracks: Sequence[LabelledTrack], rule: Rule) -> tuple[float, list[float]]:
    """Mean F1 at 0.5 over all labelled frames, missing ones filled in, and each AU's; NaN without labels."""
    rows = pd.concat(
        [pd.DataFrame({"track": track.name, "frame": track.numbers}) for track in tracks], ignore_index=True
    )
    labels = np.concatenate([track.labels for track in tracks])
    said = final_scores(scores, rows).probabilities >= THRESHOLD  # NaN is no
    counts = count(labels, said, rule)
    return counts.score(), counts.f1().tolist()


@torch.no_grad()
def _in_stretches(
    network: FeatureNetwork, track: LabelledTrack, context: int, margin_s: float
) -> NDArray[np.float32]:
    """Probabilities [T, A], each stretch of `context` frames as if there were no others."""
    device, rows = next(network.parameters()).device, len(track.numbers)
    out = np.full((rows, AU_COUNT), np.nan, np.float32)
    starts = list(range(0, rows, context))
    at_once = max(1, FRAMES_AT_ONCE // context)
    for group in (starts[at : at + at_once] for at in range(0, len(starts), at_once)):
        parts = [slice(start, min(start + context, rows)) for start in group]
        batch = collate([cut(track, part, margin_s) for part in parts]).to(device)
        said = torch.sigmoid(network(batch).logits).cpu().numpy()  # [B, T, A]
        for part, values in zip(parts, said, strict=True):
            out[part] = values[: part.stop - part.start]
    out[~track.features.has_image] = np.nan
    return out


def _table(track: LabelledTrack, probabilities: NDArray[np.float32]) -> pd.DataFrame:
    table = pd.DataFrame(dict(zip(AU_NAMES, probabilities.T, strict=True)))
    table.insert(0, "track", track.name)
    table.insert(1, "frame", track.numbers)
    table.insert(2, "has_face", track.features.has_image)
    return table
