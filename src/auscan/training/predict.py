"""Score whole tracks with a trained network and compute F1 against labels.

A track of any length is scored as one sequence: the temporal model carries its state from chunk to chunk. To
measure the value of long context, the context can be limited to chunks of a few frames.

Inputs: a network and tracks (tracks.py). Returns: a table of scores (scores.py), a `ValidationScore`.
See also: evaluation.py (intervals, thresholds and other metrics).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from auscan.core.environment import chunk_slices
from auscan.core.errors import InputError
from auscan.results.table import intensity_columns
from auscan.training.losses import Predictions
from auscan.training.metrics import Rule, count
from auscan.training.module import FeatureNetwork, TrackPrediction
from auscan.training.scores import TIME_COLUMN
from auscan.training.smoothing import final_scores
from auscan.training.thresholds import predict_active, tune_thresholds
from auscan.training.tracks import LabelledTrack
from auscan.training.windows import collate, slice_track

THRESHOLD = 0.5
"""Fixed threshold of the validation score."""
BATCH_FRAMES = 1024
"""Frames of all chunks that are scored in one call; does not change results."""


def score_tracks(
    network: FeatureNetwork, tracks: Sequence[LabelledTrack], context: int | None, audio_margin_s: float
) -> pd.DataFrame:
    """Return a table with a row for every frame of every track; NaN for frames without a crop.

    context: frames of a chunk that is scored on its own, None for whole tracks
    audio_margin_s: audio of a chunk beyond its ends, at least the fusion's reach

    Raises InputError for a track with features or scores that are not finite.
    """
    network.eval()
    tables = []
    for track in tracks:
        if context is None:
            prediction = network.predict_track(track.features, track.crops)
        else:
            prediction = _predict_in_chunks(network, track, context, audio_margin_s)
        if not np.isfinite(prediction.probabilities[track.features.has_image]).all():
            raise InputError(
                f"The network gives scores that are not finite for track {track.name}, though its features "
                "are finite: the weights have diverged. Train with a lower optimizer.rate or in float32 "
                "(loop.precision: no); if the pictures of the track are damaged, run auscan extract again."
            )
        tables.append(_scores_table(track, network.au_names, prediction))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class ValidationScore:
    """Mean F1 on the labelled frames of some tracks, with missing scores filled in; NaN without labels."""

    fixed: float
    """Mean F1 at `THRESHOLD`."""
    tuned: float
    """Mean F1 at the threshold of best F1 of each AU on these frames, which is optimistic."""
    by_au: tuple[float, ...]
    """[A] F1 at `THRESHOLD`."""


def validation_score(scores: pd.DataFrame, tracks: Sequence[LabelledTrack], rule: Rule) -> ValidationScore:
    """Compute the F1 of a table of scores against the labels of the tracks."""
    rows = pd.concat(
        [pd.DataFrame({"track": track.name, "frame": track.numbers}) for track in tracks], ignore_index=True
    )
    labels = np.concatenate([track.labels for track in tracks])
    probabilities = final_scores(scores, rows).probabilities
    fixed = count(labels, probabilities >= THRESHOLD, rule)  # NaN counts as inactive
    tuned = predict_active(probabilities, tune_thresholds(labels, probabilities, rule))
    return ValidationScore(fixed.score(), count(labels, tuned, rule).score(), tuple(fixed.f1().tolist()))


@torch.no_grad()
def _predict_in_chunks(
    network: FeatureNetwork, track: LabelledTrack, context: int, audio_margin_s: float
) -> TrackPrediction:
    """Predict a track; each chunk of `context` frames is scored on its own."""
    device, rows = next(network.parameters()).device, len(track.numbers)
    prediction = TrackPrediction.unknown(rows, network)
    chunks = chunk_slices(rows, context)
    for group in chunk_slices(len(chunks), max(1, BATCH_FRAMES // context)):
        batch = collate([slice_track(track, chunk, audio_margin_s) for chunk in chunks[group]]).to(device)
        output: Predictions = network(batch)  # [B, T, A]
        for number, chunk in enumerate(chunks[group]):
            frames, intensity_logits = slice(chunk.stop - chunk.start), output.intensity_logits
            known = None if intensity_logits is None else intensity_logits[number, frames]
            prediction.fill(chunk, output.logits[number, frames], known)
    for values in (prediction.probabilities, prediction.intensities):
        if values is not None:
            values[~track.features.has_image] = np.nan
    return prediction


def _scores_table(track: LabelledTrack, au_names: Sequence[str], prediction: TrackPrediction) -> pd.DataFrame:
    columns = dict(zip(au_names, prediction.probabilities.T, strict=True))
    if prediction.intensities is not None:
        columns |= zip(intensity_columns(au_names), prediction.intensities.T, strict=True)
    table = pd.DataFrame(columns)
    table.insert(0, "track", track.name)
    table.insert(1, "frame", track.numbers)
    table.insert(2, "has_face", track.features.has_image)
    table[TIME_COLUMN] = track.features.times_s
    return table
