"""Live detection equals offline detection except for the limited look-ahead."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.faces.tracking import STRIDE
from auscan.inference.engine import (
    AudioTokens,
    FusedFrames,
    InferenceEngine,
    MouthOpening,
    encode_audio_stream,
)
from auscan.inference.torch_engine import TorchEngine
from auscan.media.audio import Waveform, read_waveform
from auscan.media.stream import read_stream
from auscan.media.video import Frame
from auscan.pipeline import live
from auscan.pipeline.audio_stream import AudioTokenBuffer
from auscan.pipeline.detect import detect
from auscan.pipeline.face_features import FaceEncoder
from auscan.pipeline.live import LiveDetector, Row
from auscan.results.table import QUALITY_FEATURE_COLUMNS, REASONS, table_columns

FRAMES = 40


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> InferenceEngine:
    return TorchEngine(tiny_checkpoint)


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> Path:
    """A face that is absent for six frames, with two seconds of noise."""
    images = face_images(FRAMES)
    images[20:26] = [np.full_like(images[0], 90)] * 6
    noise = (0.1 * np.random.default_rng(0).standard_normal(32_000)).astype(np.float32)
    path = tmp_path_factory.mktemp("live") / "talk.mp4"
    return write_clip(path, images, np.arange(FRAMES) / 25, noise)


@pytest.fixture(scope="module")
def offline(clip: Path, engine: InferenceEngine) -> NDArray[np.float64]:
    return as_numbers(detect(clip, model=engine).table)


def run(clip: Path, engine: InferenceEngine, lag_s: float, keep_all: bool = False) -> list[list[Row]]:
    """Return the rows emitted after each frame of the clip, and last those of `finish`."""
    emitted = []
    with LiveDetector(engine, lag_s=lag_s, keep_all=keep_all) as live:
        for item in read_stream(str(clip)):
            if isinstance(item, Frame):
                emitted.append(live.push(item.image, item.time_s))
            else:
                live.push_audio(item)
        emitted.append(live.finish())
    return emitted


def as_table(emitted: list[list[Row]]) -> NDArray[np.float64]:
    """Return rows as numbers [R, columns], NaN for None."""
    return as_numbers(
        pd.DataFrame([row for rows in emitted for row in rows], columns=table_columns(AFFWILD2_AUS))
    )


def as_numbers(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return a table as numbers [R, columns], the reason as its index in REASONS, -1 for none."""
    reasons = table["reason"].map(lambda reason: ["", *REASONS].index(reason) - 1)
    return table.assign(reason=reasons).to_numpy(np.float64, na_value=np.nan)


def test_with_unlimited_look_ahead_live_equals_offline(
    clip: Path, engine: InferenceEngine, offline: NDArray[np.float64]
) -> None:
    emitted = run(clip, engine, math.inf)
    assert not any(emitted[:-1])
    assert_allclose(as_table(emitted), offline, atol=1e-4)


def test_live_reports_the_same_quality_and_scores_the_same_faces(
    tmp_path: Path, engine: InferenceEngine, write_clip: Callable[..., Path], portrait: NDArray[np.uint8]
) -> None:
    """A clip with eight blurred frames, without look-ahead, with and without `keep_all`."""
    images = [portrait[24:216, 130:322]] * 24
    images[8:16] = [cv2.GaussianBlur(images[0], (0, 0), 4.5).astype(np.uint8)] * 8
    clip = write_clip(tmp_path / "focus.mp4", images, np.arange(24) / 25)
    for keep_all in (False, True):
        offline = detect(clip, model=engine, keep_all=keep_all).table
        live = as_table(run(clip, engine, 0.0, keep_all))
        assert set(offline["reason"]) == {"", "blur"}
        quality = [
            table_columns(AFFWILD2_AUS).index(name)
            for name in ("quality", "reason", *QUALITY_FEATURE_COLUMNS)
        ]
        active_column = table_columns(AFFWILD2_AUS).index("AU12_c")
        assert_allclose(live[:, quality], as_numbers(offline)[:, quality], atol=1e-4)
        assert_array_equal(np.isnan(live[:, active_column]), offline["AU12_c"].isna())
        assert offline["AU12_c"].notna().all() == keep_all


@pytest.mark.parametrize("lag_s", [0.0, 0.2])
def test_with_a_short_look_ahead_every_frame_has_its_row_in_order_and_in_time(
    clip: Path, engine: InferenceEngine, offline: NDArray[np.float64], lag_s: float
) -> None:
    emitted = run(clip, engine, lag_s)
    table = as_table(emitted)
    boxes = table_columns(AFFWILD2_AUS).index("AU01")
    assert_allclose(table[:, :boxes], offline[:, :boxes], atol=1e-4)
    newest = -1
    for pushed, rows in enumerate(emitted[:-1]):
        for row in rows:
            late_s = (pushed - int(row["frame"] or 0)) / 25
            assert lag_s - 1e-9 <= late_s <= lag_s + STRIDE / 25 + 1e-9
            newest = int(row["frame"] or 0)
    assert newest > FRAMES / 2


@pytest.mark.parametrize("lag_s", [0.0, 0.3])
def test_without_audio_and_backward_scan_live_equals_offline_with_any_lag(
    clip: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, lag_s: float
) -> None:
    """The forward scan state is carried exactly, so a network that needs no look-ahead loses nothing."""
    forward = TorchEngine(tiny_checkpoint)
    for block in forward.network.temporal.memory.blocks:
        block.backward_scan.out_proj.weight.zero_()
    monkeypatch.setattr("auscan.media.recording.read_waveform", lambda path: None)
    monkeypatch.setattr(LiveDetector, "push_audio", lambda self, audio: None)
    expected = as_numbers(detect(clip, model=forward).table)
    assert_allclose(as_table(run(clip, forward, lag_s)), expected, atol=1e-4)


def test_a_longer_look_ahead_is_closer_to_offline(
    clip: Path, engine: InferenceEngine, offline: NDArray[np.float64]
) -> None:
    columns = [table_columns(AFFWILD2_AUS).index(name) for name in AFFWILD2_AUS if name != "AU23"]
    errors = [np.abs(as_table(run(clip, engine, lag)) - offline)[:, columns] for lag in (0.0, 0.6)]
    assert np.nanmean(errors[1]) < np.nanmean(errors[0])


def test_frames_after_dropped_frames_keep_their_numbers(clip: Path, engine: InferenceEngine) -> None:
    frames = [item for item in read_stream(str(clip)) if isinstance(item, Frame)]
    with LiveDetector(engine) as live:
        rows = [row for f in frames[::3] for row in live.push(f.image, f.time_s, index=f.index)]
        rows += live.finish()
    assert [row["frame"] for row in rows] == list(range(0, FRAMES, 3))
    assert [row["timestamp"] for row in rows] == [frame.time_s for frame in frames[::3]]


@pytest.mark.parametrize("chunk_s", [0.013, 0.3, 5.0])
@pytest.mark.parametrize("encode_each_chunk", [False, True])
def test_live_audio_has_the_tokens_of_the_whole_audio(
    clip: Path, engine: InferenceEngine, chunk_s: float, encode_each_chunk: bool
) -> None:
    whole = read_waveform(clip)
    assert whole is not None
    expected = encode_audio_stream(engine, whole)
    assert expected is not None
    buffer = AudioTokenBuffer(engine)
    for chunk in read_waveform(clip, chunk_s) or ():
        buffer.push(chunk)
        if encode_each_chunk:
            buffer.tokens()
    tokens = buffer.tokens()
    assert tokens is not None
    assert_allclose(tokens.times_s, expected.times_s, atol=1e-9)
    assert_allclose(tokens.tokens, expected.tokens, atol=1e-4)
    buffer.drop_before(expected.times_s[10])
    later = buffer.tokens()
    assert later is not None
    assert_allclose(later.tokens, expected.tokens[-len(later.tokens) :], atol=1e-4)
    assert later.times_s[-1] == pytest.approx(expected.times_s[-1])


def test_a_gap_in_live_audio_is_silence_and_an_overlap_is_dropped(engine: InferenceEngine) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    whole, pieces = AudioTokenBuffer(engine), AudioTokenBuffer(engine)
    whole.push(Waveform(np.concatenate([noise[:4000], np.zeros(8000, np.float32), noise[4000:]]), 2.0))
    pieces.push(Waveform(noise[:4000], 2.0))
    pieces.push(Waveform(noise[4000:8000], 2.75))
    pieces.push(Waveform(noise[6000:], 2.875))
    a, b = whole.tokens(), pieces.tokens()
    assert a is not None
    assert b is not None
    assert_allclose(a.tokens, b.tokens, atol=1e-6)


def test_a_lag_below_zero_is_refused(engine: InferenceEngine) -> None:
    with pytest.raises(ValueError, match="lag_s"):
        LiveDetector(engine, lag_s=-1)


def test_a_face_unseen_for_more_than_a_second_is_dropped_live_and_offline(
    tmp_path: Path,
    engine: InferenceEngine,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise memory would grow in a long video with many faces."""
    dropped: list[int] = []
    monkeypatch.setattr(FaceEncoder, "drop", lambda self, face_id: dropped.append(face_id))
    seen = face_images(9)  # the last one at 0.32 s
    images = [*seen, *[np.full_like(seen[0], 90)] * 36]
    with LiveDetector(engine, lag_s=0.0) as live:
        count_at = []
        for index, image in enumerate(images):
            live.push(image, index / 25)
            count_at.append(len(dropped))
    assert count_at[round(25 * (0.32 + 1.0))] == 0
    assert count_at[-1] == 1
    dropped.clear()
    detect(write_clip(tmp_path / "gone.mp4", images + images[-1:] * 20, np.arange(65) / 25), model=engine)
    assert dropped == [0]


class FollowedEngine:
    """Engine that sees the opening in the first channel of the embedding, and hears a steady rhythm."""

    def __init__(self, engine: InferenceEngine) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def mouth_opening(self, embedding: NDArray[np.float32], audio: AudioTokens | None) -> MouthOpening:
        heard = np.empty(0) if audio is None else 2 * np.sin(17 * audio.times_s)
        return MouthOpening(3 * embedding[:, 0], heard.astype(np.float32))


def test_whose_voice_it_is_does_not_depend_on_when_rows_are_emitted(
    clip: Path, engine: InferenceEngine
) -> None:
    """The evidence is carried exactly, and needs a tenth of a second of sound after a frame."""
    followed = cast(InferenceEngine, FollowedEngine(engine))
    expected = detect(clip, model=followed).table["speaking"].to_numpy()
    assert np.nanstd(expected) > 0.1
    for lag_s in (0.2, 0.5, math.inf):
        speaking = as_table(run(clip, followed, lag_s))[:, table_columns(AFFWILD2_AUS).index("speaking")]
        assert_allclose(speaking, expected, atol=1e-4)


def test_the_frames_of_the_look_ahead_are_trusted_as_if_they_were_emitted(
    clip: Path, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound that is not received yet may change the trust of the last 0.2 s."""
    trusts: list[dict[float, float]] = []
    fuse = live.fuse_nearby_audio

    def record(engine: Any, embedding: Any, times_s: Any, audio: Any, trust: Any) -> FusedFrames:
        trusts.append(dict(zip(times_s.tolist(), trust.tolist(), strict=True)))
        return fuse(engine, embedding, times_s, audio, trust)

    monkeypatch.setattr(live, "fuse_nearby_audio", record)
    followed = cast(InferenceEngine, FollowedEngine(engine))
    run(clip, followed, math.inf)
    (whole,) = trusts
    assert np.std(list(whole.values())) > 0.1
    trusts.clear()
    run(clip, followed, 0.5)
    assert len(trusts) > 2
    for part in trusts:
        final = [time_s for time_s in part if time_s < max(part) - 0.2]
        assert_allclose([part[time_s] for time_s in final], [whole[time_s] for time_s in final], atol=1e-4)
