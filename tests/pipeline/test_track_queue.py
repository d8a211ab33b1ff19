"""Tracks wait for the offset of the sound, which is one for the whole file."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.faces.tracking import TrackedFace
from auscan.inference.engine import AudioTokens, InferenceEngine, MouthOpening
from auscan.pipeline import track_queue
from auscan.pipeline.face_features import (
    FaceFeatures,
    mouth_visibility,
)
from auscan.pipeline.track import FaceTrack
from auscan.pipeline.track_queue import TrackQueue
from auscan.results.table import QUALITY_FEATURE_COLUMNS, check_quality

RATE_HZ = 25
LATE_S = 0.16
KNOTS = np.random.default_rng(0).normal(0, 1, 1000)


def voice(times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the opening that the voice predicts at the times [n] of the picture."""
    return np.interp(8 * times_s, np.arange(1000), KNOTS).astype(np.float32)


class FirstChannelEngine:
    """Engine whose opening is the first channel of frames and tokens."""

    def __init__(self, checkpoint_format: int = 2) -> None:
        self.config = SimpleNamespace(format=checkpoint_format)

    def mouth_opening(self, embedding: NDArray[np.float32], audio: AudioTokens | None) -> MouthOpening:
        heard = np.empty(0, np.float32) if audio is None else audio.tokens[:, 0]
        return MouthOpening(embedding[:, 0], heard)


def recorded(seconds: float) -> AudioTokens:
    """Return audio tokens of the voice, `LATE_S` late."""
    times_s = 0.01 + 0.02 * np.arange(round(50 * seconds))
    return AudioTokens(np.repeat(voice(times_s - LATE_S)[:, None], 3, axis=1), times_s)


def track(face_id: int, first_s: float, last_s: float) -> FaceTrack:
    """Return the track of a face that speaks with the voice."""
    frames = np.arange(round(first_s * RATE_HZ), round(last_s * RATE_HZ))
    made: FaceTrack | None = None
    for frame in frames:
        opening = voice(np.array([frame / RATE_HZ]))
        features = FaceFeatures(
            face=cast(TrackedFace, SimpleNamespace(box=np.zeros(4), score=1.0)),
            points=np.zeros((5, 2), np.float32),
            embedding=np.repeat(opening, 4),
            au_tokens=np.zeros((12, 2), np.float32),
            quality_features=np.zeros(7, np.float32),
            mouth_visible=1.0,
            face_count=1,
        )
        made = made or FaceTrack(face_id, features)
        made.add(int(frame), frame / RATE_HZ, features)
    assert made is not None
    return made


def queue(**options: Any) -> TrackQueue:
    return TrackQueue(cast(InferenceEngine, FirstChannelEngine(**options)))


def test_the_tracks_of_a_short_file_wait_for_its_end_and_share_one_offset() -> None:
    audio, waiting = recorded(14), queue()
    waiting.add(track(0, 0, 6), audio)
    assert not list(waiting.ready())
    waiting.add(track(1, 6.5, 13), audio)
    assert waiting.first_frame == 0
    assert waiting.offset_s is None
    ready = list(waiting.ready(at_end=True))
    assert [each.track.face_id for each in ready] == [0, 1]
    assert waiting.offset_s == pytest.approx(LATE_S, abs=0.021)
    assert waiting.first_frame == np.inf


def test_the_offset_is_decided_once_there_is_enough_evidence_and_does_not_change() -> None:
    audio, waiting = recorded(60), queue()
    waiting.add(track(0, 0, 36), audio)
    assert [each.track.face_id for each in waiting.ready()] == [0]
    offset_s = waiting.offset_s
    assert offset_s == pytest.approx(LATE_S, abs=0.021)
    waiting.add(track(1, 38, 58), AudioTokens(audio.tokens, audio.times_s + 0.1))
    assert [each.track.face_id for each in waiting.ready()] == [1]
    assert waiting.offset_s == offset_s


def test_the_number_of_waiting_frames_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_queue, "MAX_WAITING_FRAMES", 100)
    audio, waiting = recorded(8), queue()
    waiting.add(track(0, 0, 3), audio)
    assert not list(waiting.ready())
    waiting.add(track(1, 3, 6), audio)
    assert len(list(waiting.ready())) == 2
    assert waiting.offset_s == 0, "six seconds are too few to find an offset"


@pytest.mark.parametrize(("checkpoint_format", "has_audio"), [(1, True), (2, False)])
def test_nothing_waits_where_the_opening_cannot_be_heard(checkpoint_format: int, has_audio: bool) -> None:
    waiting = queue(checkpoint_format=checkpoint_format)
    waiting.add(track(0, 0, 3), recorded(4) if has_audio else None)
    (ready,) = waiting.ready()
    assert ready.opening is None
    assert waiting.offset_s is None


def test_a_track_keeps_visibility_and_number_of_faces() -> None:
    face = track(0, 0, 2)
    features = FaceFeatures(
        face=cast(TrackedFace, SimpleNamespace(box=np.zeros(4), score=1.0)),
        points=np.zeros((5, 2), np.float32),
        embedding=np.full(4, 7, np.float32),
        au_tokens=np.zeros((12, 2), np.float32),
        quality_features=np.zeros(7, np.float32),
        mouth_visible=0.25,
        face_count=3,
    )
    face.add(50, 2.0, features)
    opening = face.opening(cast(InferenceEngine, FirstChannelEngine()), recorded(3))
    assert opening is not None
    assert (opening.mouth.seen[-1], opening.mouth.visible[-1], opening.mouth.faces[-1]) == (7, 0.25, 3)
    assert (opening.mouth.visible[:-1] == 1).all()
    assert (opening.mouth.faces[:-1] == 1).all()


def test_the_mouth_is_visible_in_a_scored_face_as_far_as_the_gates_of_its_aus_are_open() -> None:
    features = np.full((5, len(QUALITY_FEATURE_COLUMNS)), np.nan, np.float32)
    covered = QUALITY_FEATURE_COLUMNS.index("covered")
    features[:, 0] = 40.0
    features[:, covered] = [0.0, 0.0, 0.0, 0.15, 0.4]
    gates = np.full((5, len(AFFWILD2_AUS)), 0.1, np.float32)
    gates[:, [10, 11]] = np.array([[0.95], [0.65], [0.4], [0.95], [0.95]])
    graded = float(check_quality(features)[0][3])
    assert 0.5 < graded < 1
    assert mouth_visibility(gates, features, AFFWILD2_AUS) == pytest.approx([1, 0.5, 0, graded, 0])
    assert mouth_visibility(None, features, AFFWILD2_AUS) == pytest.approx([1, 1, 1, graded, 0])
    assert mouth_visibility(gates[:, :2], features, ["AU01", "AU12"]) == pytest.approx([1, 1, 1, graded, 0])
