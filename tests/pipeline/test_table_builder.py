"""Rows come in order, once, and only when nothing can change them."""

import numpy as np
import pandas as pd
import pytest

from auscan.pipeline import table_builder as module
from auscan.pipeline.table_builder import Ledger
from auscan.results.baseline import Baseline, resting_levels, with_levels
from auscan.results.table import TrackScores, build_table

THRESHOLDS = (0.5,) * 12


def track(face_id: int, frames: list[int]) -> TrackScores:
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


def test_the_pieces_make_up_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 4)
    tracks = [track(0, [1, 2, 5]), track(1, [3, 4, 5, 6, 11]), track(2, [12, 13])]
    times = np.arange(15) / 25
    pieces: list[pd.DataFrame] = []
    ledger = Ledger(THRESHOLDS, pieces.append)
    for frame in range(15):
        ledger.times_s.append(times[frame])
        for each in tracks:
            if frame == each.frames[-1] + 1:
                ledger.add_track(each)
        ledger.settle(min((int(t.frames[0]) for t in tracks if frame <= t.frames[-1]), default=frame + 1))
        settled = sum(piece["frame"].nunique() for piece in pieces)
        assert settled <= min((t.frames[0] for t in tracks if frame <= t.frames[-1]), default=15)
    table = ledger.finish()
    expected = build_table(times, tracks, THRESHOLDS)
    pd.testing.assert_frame_equal(table, expected)
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), expected)
    assert len(pieces) == 4
    assert ledger.tracks == tracks


def test_a_baseline_taken_off_on_the_way_is_that_of_the_whole_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are cut anywhere; a face's level is that of all its frames, as if asked for afterwards."""
    monkeypatch.setattr(module, "PIECE", 7)
    tracks = [track(0, list(range(40))), track(1, list(range(3, 9))), track(2, list(range(45, 80)))]
    times, baseline = 2 + np.arange(82) / 25, Baseline(2.2, 4.5)
    ledger = Ledger(THRESHOLDS, None, keep_all=True, baseline=baseline)
    ledger.times_s += times.tolist()
    for each in tracks:
        ledger.add_track(each)
        ledger.settle(int(each.frames[-1]) if each.face_id else 0)
    plain = build_table(times, tracks, THRESHOLDS, keep_all=True)
    levels = resting_levels(plain, baseline, keep_all=True)
    assert [np.isnan(level).all() for level in levels.values()] == [False, True, True]
    pd.testing.assert_frame_equal(ledger.finish(), with_levels(plain, levels, THRESHOLDS, keep_all=True))


def test_a_video_without_frames_is_a_table_without_rows() -> None:
    table = Ledger(THRESHOLDS, None).finish()
    assert len(table) == 0
    assert list(table.columns) == list(build_table(np.empty(0), [], THRESHOLDS).columns)
