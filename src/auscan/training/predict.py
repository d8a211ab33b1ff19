"""Score whole tracks with a network over features, and hold the scores against the labels.

Every track is read as one, of any length: the memory carries its state from stretch to stretch.

In: a network and tracks (windows.py).  Out: a table of scores (scores.py), the mean F1.
Not here: intervals, thresholds and the rest of an evaluation (evaluation.py).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from auscan.core.aus import AU_NAMES
from auscan.training.metrics import Rule, count
from auscan.training.module import FeatureNetwork
from auscan.training.smoothing import final_scores
from auscan.training.windows import LabelledTrack

THRESHOLD = 0.5
"""At which the validation score is taken: tuned ones would follow its noise."""


def score_tracks(network: FeatureNetwork, tracks: Sequence[LabelledTrack]) -> pd.DataFrame:
    """A row for every frame of every track; NaN where it has no picture."""
    network.eval()
    return pd.concat([_table(network, track) for track in tracks], ignore_index=True)


def mean_f1(scores: pd.DataFrame, tracks: Sequence[LabelledTrack], rule: Rule) -> tuple[float, list[float]]:
    """Mean F1 at 0.5 over all labelled frames, missing ones filled in, and each AU's; NaN without labels."""
    rows = pd.concat(
        [pd.DataFrame({"track": track.name, "frame": track.numbers}) for track in tracks], ignore_index=True
    )
    labels = np.concatenate([track.labels for track in tracks])
    said = final_scores(scores, rows).probabilities >= THRESHOLD  # NaN is no
    counts = count(labels, said, rule)
    return counts.score(), counts.f1().tolist()


def _table(network: FeatureNetwork, track: LabelledTrack) -> pd.DataFrame:
    probabilities = network.follow_track(track.features)
    table = pd.DataFrame(dict(zip(AU_NAMES, probabilities.T, strict=True)))
    table.insert(0, "track", track.name)
    table.insert(1, "frame", track.numbers)
    table.insert(2, "has_face", track.features.has_image)
    return table
