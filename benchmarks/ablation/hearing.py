"""Score one trained network on the test tracks with its own sound, without sound and with another track's.

Inputs: the folder of a run, the work folder of run.py. Returns: two tables in the run's folder,

    test.parquet      probabilities [A] by track, frame and sound (own, none, other)
    measures.parquet  gates [A], opening of the mouth and share of active patches by track and frame

See also: run.py (training), scores.py (metrics of these tables).
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.environment import atomic_path
from auscan.datasets.cache import TrackFeatures
from auscan.datasets.index import read_index
from auscan.faces.align import SIDE, TEMPLATE
from auscan.model.alignment import GranularityAlignment
from auscan.training.module import FeatureNetwork
from auscan.training.run import load_trained
from auscan.training.tracks import load_tracks

GATES: Final = tuple(f"{name}_gate" for name in AFFWILD2_AUS)
"""Columns of the gates."""
MOUTH_AUS: Final = np.isin(AFFWILD2_AUS, ("AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26"))
"""Mask [A] of the AUs whose region is the mouth."""
FACE_CENTRE_PX: Final = (56.0, 66.0)
FACE_RADII_PX: Final = (38.0, 50.0)
"""Ellipse of the face in an aligned crop. Crops are aligned, so it is the same in all."""
MOUTH_HALF_PX: Final = (22.0, 14.0)
"""Half width and half height of the mouth region in an aligned crop."""


def score_network(run: Path, work: Path) -> None:
    """Write both tables of one network."""
    network, _ = load_trained(run / "best")
    tracks = load_tracks(read_index(work / "index"), work / "cache", ["test"])
    scores, measures = [], []
    for number, track in enumerate(tracks):
        other = tracks[(number + 1) % len(tracks)].features
        for sound, features in with_sounds(track.features, other).items():
            table = pd.DataFrame(network.predict_track(features).probabilities, columns=list(AFFWILD2_AUS))
            table.insert(0, "sound", sound)
            scores.append(_named(table, track.name, track.numbers))
        measures.append(_named(measure_track(network, track.features), track.name, track.numbers))
    for name, tables in (("measures", measures), ("test", scores)):
        with atomic_path(run / f"{name}.parquet") as temporary:
            pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


def with_sounds(features: TrackFeatures, other: TrackFeatures) -> dict[str, TrackFeatures]:
    """Return the features with their own sound, without sound and with that of another track."""
    header = features.header.model_copy(update={"audio_start_s": other.header.audio_start_s})
    return {
        "own": features,
        "none": replace(features, audio=features.audio[:0]),
        "other": replace(features, header=header, audio=other.audio),
    }


@torch.no_grad()
def measure_track(network: FeatureNetwork, features: TrackFeatures) -> pd.DataFrame:
    """Return gates, opening and shares of active patches of every frame of a track with sound."""
    face, patches, audio = (
        torch.from_numpy(np.array(features.read(name))).float()[None] for name in ("face", "patches", "audio")
    )
    aligned = network.alignment(face, patches)
    temporal = network.temporal
    seen, heard = temporal.opening(aligned.embedding, temporal.norm_audio(audio))
    table = pd.DataFrame({"seen": seen[0].numpy()})
    table["heard"] = np.interp(features.times_s, features.audio_times_s(), heard[0].numpy())
    if isinstance(network.alignment, GranularityAlignment):
        table[list(GATES)] = aligned.gates[0].numpy()
        active = (aligned.attention[0] > 0).any(2).float().numpy()  # [T, A, N]
        on_face, on_mouth = (
            active @ region / active.sum(2) for region in patch_regions(features.header.grid)
        )
        table["active_on_face"] = on_face.mean(1)
        table["active_on_mouth"] = on_mouth[:, MOUTH_AUS].mean(1)
    return table


def patch_regions(grid: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return masks [N] of the patches with their centre on the face and on the mouth of an aligned crop."""
    centres = (np.arange(grid) + 0.5) * SIDE / grid
    y, x = (each.ravel() for each in np.meshgrid(centres, centres, indexing="ij"))  # row by row
    distance = ((x - FACE_CENTRE_PX[0]) / FACE_RADII_PX[0]) ** 2 + (
        (y - FACE_CENTRE_PX[1]) / FACE_RADII_PX[1]
    ) ** 2
    mouth_x, mouth_y = TEMPLATE[3:].mean(axis=0)
    on_mouth = (np.abs(x - mouth_x) <= MOUTH_HALF_PX[0]) & (np.abs(y - mouth_y) <= MOUTH_HALF_PX[1])
    return (distance <= 1).astype(np.float32), on_mouth.astype(np.float32)


def _named(table: pd.DataFrame, track: str, numbers: NDArray[np.int64]) -> pd.DataFrame:
    table.insert(0, "track", track)
    table.insert(1, "frame", numbers)
    return table
