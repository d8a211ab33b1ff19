"""The table builder passes on each row once, in order, and only when it is final."""

import numpy as np
import pandas as pd
import pytest

from auscan.pipeline import table_builder as module
from auscan.pipeline.table_builder import TableBuilder
from auscan.results.baseline import Baseline, add_baseline_columns, resting_levels
from auscan.results.table import TrackScores, build_table

THRESHOLDS = (0.5,) * 12


def track_scores(face_id: int, frames: list[int]) -> TrackScores:
    count = len(frames)
    values = np.random.default_rng(face_id).random((count, 12)).astype(np.float32)
    return TrackScores(
        face_id,
        np.array(frames),
        np.full((count, 4), face_id, np.float32),
        np.zeros((count, 5, 2), np.float32),
        np.full(count, 0.9, np.float32),
        np.random.default_rng(face_id + 100).uniform(0, 60, (count, 7)).astype(np.float32),
        values,
    )


def test_the_chunks_concatenate_to_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_FRAMES", 4)
    tracks = [track_scores(0, [1, 2, 5]), track_scores(1, [3, 4, 5, 6, 11]), track_scores(2, [12, 13])]
    times = np.arange(15) / 25
    chunks: list[pd.DataFrame] = []
    builder = TableBuilder(THRESHOLDS, chunks.append)
    for frame in range(15):
        builder.times_s.append(times[frame])
        for track in tracks:
            if frame == track.frames[-1] + 1:
                builder.add_track(track)
        builder.flush(min((int(t.frames[0]) for t in tracks if frame <= t.frames[-1]), default=frame + 1))
        flushed = sum(chunk["frame"].nunique() for chunk in chunks)
        assert flushed <= min((t.frames[0] for t in tracks if frame <= t.frames[-1]), default=15)
    table = builder.finish()
    expected = build_table(times, tracks, THRESHOLDS)
    pd.testing.assert_frame_equal(table, expected)
    pd.testing.assert_frame_equal(pd.concat(chunks, ignore_index=True), expected)
    assert len(chunks) == 4
    assert builder.tracks == tracks


def test_a_baseline_subtracted_per_chunk_is_computed_from_the_whole_track(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Chunk boundaries lie anywhere; the result equals a baseline applied to the finished table."""
    monkeypatch.setattr(module, "CHUNK_FRAMES", 7)
    tracks = [
        track_scores(0, list(range(40))),
        track_scores(1, list(range(3, 9))),
        track_scores(2, list(range(45, 80))),
    ]
    times, baseline = 2 + np.arange(82) / 25, Baseline(2.2, 4.5)
    builder = TableBuilder(THRESHOLDS, None, keep_all=True, baseline=baseline)
    builder.times_s += times.tolist()
    for track in tracks:
        builder.add_track(track)
        builder.flush(int(track.frames[-1]) if track.face_id else 0)
    plain = build_table(times, tracks, THRESHOLDS, keep_all=True)
    levels = resting_levels(plain, baseline, keep_all=True)
    assert [np.isnan(level).all() for level in levels.values()] == [False, True, True]
    pd.testing.assert_frame_equal(
        builder.finish(), add_baseline_columns(plain, levels, THRESHOLDS, keep_all=True)
    )


def test_a_video_without_frames_has_a_table_without_rows() -> None:
    table = TableBuilder(THRESHOLDS, None).finish()
    assert len(table) == 0
    assert list(table.columns) == list(build_table(np.empty(0), [], THRESHOLDS).columns)
