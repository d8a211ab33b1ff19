"""A spooled array returns the rows that were written, in memory and on disk.

The table builder passes on each row once, in order, and only when it is final.
"""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from auscan.pipeline import track as module
from auscan.pipeline.track import SpooledArray, TableBuilder
from auscan.results.events import Baseline, add_baseline_columns, resting_levels
from auscan.results.table import TrackScores, build_table


@pytest.mark.parametrize("in_memory_bytes", [10, 2**21])
def test_any_slice_equals_the_appended_rows(monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", in_memory_bytes)
    data = np.random.default_rng(0).standard_normal((50, 3, 2)).astype(np.float32)
    rows = SpooledArray((3, 2))
    for start in range(0, 50, 7):
        rows.append(data[start : start + 7])
    assert rows.shape == (50, 3, 2)
    assert len(rows) == 50
    for part in (slice(None), slice(3, 9), slice(45, 80), slice(9, 9)):
        assert_array_equal(rows[part], data[part])


@pytest.mark.parametrize("in_memory_bytes", [10, 2**21])
def test_allocated_rows_can_be_written_in_any_order(
    monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", in_memory_bytes)
    zeros = SpooledArray.allocate((6, 2))
    assert_array_equal(zeros[:], np.zeros((6, 2)))
    zeros[4:6] = np.float32([[1, 2], [3, 4]])
    zeros[0:2] = 7.0
    assert_array_equal(zeros[:], [[7, 7], [7, 7], [0, 0], [0, 0], [1, 2], [3, 4]])


def test_changing_a_slice_does_not_change_the_array() -> None:
    rows = SpooledArray((2,))
    rows.append(np.ones((3, 2), np.float32))
    rows[:][0] = 5
    assert_array_equal(rows[:], np.ones((3, 2)))


def test_the_dtype_uint8_is_kept() -> None:
    rows = SpooledArray((3,), np.uint8)
    rows.append(np.array([[0, 1, 255]], np.uint8))
    rows.append(np.array([[7, 8, 9]], np.uint8))
    assert rows[:].dtype == np.uint8
    assert rows[:].tolist() == [[0, 1, 255], [7, 8, 9]]
    assert rows[1:2].tolist() == [[7, 8, 9]]


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
        values[:, 0] if face_id else None,
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
