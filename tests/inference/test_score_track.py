"""Test the scoring of tracks in chunks, and the calibration of probabilities."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import expit

from auscan.core.config import Calibration, CheckpointConfig, nano
from auscan.inference.engine import AudioTokens, InferenceEngine
from auscan.inference.score_track import (
    audio_gates,
    audio_margin_s,
    calibrate,
    fuse_nearby_audio,
    predict_opening,
    probabilities,
    reading_margin_s,
    score_track,
    to_logits,
)
from auscan.inference.torch_engine import TorchEngine
from auscan.model.bidirectional import elapsed_frames
from auscan.model.network import AudioInput, AuscanNetwork

LOGITS = np.sort(np.random.default_rng(0).normal(0, 4, (50, 12)), axis=0).astype(np.float32)
CALIBRATION = Calibration(
    scale=tuple(np.linspace(0.2, 3, 12).tolist()), shift=tuple(np.linspace(-2, 2, 12).tolist())
)


def test_without_a_calibration_probabilities_are_the_sigmoid() -> None:
    np.testing.assert_allclose(calibrate(LOGITS, None), expit(LOGITS.astype(float)))


def test_calibrated_probabilities_are_those_of_the_definition_and_rise_with_the_logits() -> None:
    actual = calibrate(LOGITS, CALIBRATION)
    for j in range(12):
        expected = expit(CALIBRATION.scale[j] * LOGITS[:, j].astype(float) + CALIBRATION.shift[j])
        np.testing.assert_allclose(actual[:, j], expected)
    assert (np.diff(actual, axis=0) > 0).all()


def test_the_probabilities_of_a_checkpoint_are_calibrated() -> None:
    config = CheckpointConfig(name="a", calibration=CALIBRATION, auscan_version="0", network=nano())
    np.testing.assert_allclose(probabilities(LOGITS, config), calibrate(LOGITS, CALIBRATION), rtol=1e-6)
    assert np.abs(probabilities(LOGITS, config) - expit(LOGITS)).mean() > 0.1


def test_an_untrained_au_is_nan_for_any_calibration() -> None:
    config = CheckpointConfig(
        name="a", untrained_aus=("AU23",), calibration=CALIBRATION, auscan_version="0", network=nano()
    )
    actual = probabilities(LOGITS, config)
    assert actual.dtype == np.float32
    assert np.isnan(actual[:, 8]).all()
    assert not np.isnan(np.delete(actual, 8, axis=1)).any()


def test_logits_can_be_recovered_from_probabilities() -> None:
    near = np.clip(LOGITS, -12, 12)
    np.testing.assert_allclose(to_logits(calibrate(near, None)), near, atol=1e-6)
    assert np.abs(to_logits(np.array([0.0, 1.0]))).max() == pytest.approx(16.1, abs=0.1)
    assert np.isnan(to_logits(np.array([np.nan]))).all()


FRAMES = 70
Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> TorchEngine:
    return TorchEngine(tiny_checkpoint)


@pytest.fixture(scope="module")
def track() -> Arrays:
    """Return embedding, AU tokens and times of a face at about 25 frames a second, with a gap of 3 s."""
    random = np.random.default_rng(0)
    embedding, au_tokens = (
        random.standard_normal((FRAMES, *shape)).astype(np.float32) for shape in ((16,), (12, 4))
    )
    times_s = 7200.0 + np.cumsum(random.uniform(0.02, 0.06, FRAMES))
    times_s[40:] += 3.0
    return embedding, au_tokens, times_s


@pytest.fixture(scope="module")
def sound(track: Arrays) -> AudioTokens:
    """Return audio that starts 0.7 s after the track and ends before it."""
    times_s = track[2][0] + 0.7 + 0.02 * np.arange(80)
    tokens = np.random.default_rng(1).standard_normal((80, 12)).astype(np.float32)
    return AudioTokens(tokens, times_s)


def at_once(network: AuscanNetwork, track: Arrays, sound: AudioTokens | None) -> NDArray[np.float32]:
    audio = None
    if sound is not None:
        tokens = torch.from_numpy(sound.tokens)[None]
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
        audio = AudioInput(tokens, torch.from_numpy(sound.times_s)[None], valid)
    with torch.no_grad():
        logits: torch.Tensor = network.temporal(
            *(torch.from_numpy(each)[None] for each in track), audio
        ).logits
    return logits[0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("chunk_frames", [1, 7, 32, FRAMES, 2048])
@pytest.mark.parametrize("with_sound", [False, True])
def test_a_track_in_chunks_equals_the_network_on_the_whole_track(
    engine: TorchEngine,
    tiny_network: AuscanNetwork,
    track: Arrays,
    sound: AudioTokens,
    chunk_frames: int,
    with_sound: bool,
) -> None:
    audio = sound if with_sound else None
    logits = score_track(engine, *track, audio, chunk_frames=chunk_frames).logits
    assert logits.dtype == np.float32
    assert_allclose(logits, at_once(tiny_network, track, audio), atol=1e-4)


def test_a_track_on_disk_is_scored_and_not_modified(
    engine: TorchEngine, track: Arrays, sound: AudioTokens, tmp_path: Path
) -> None:
    """With memmaps as inputs and as working arrays, a long track is never in memory as a whole."""
    for name, array in zip("abc", track, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    on_disk: Any = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "abc"]
    made: list[tuple[int, ...]] = []

    def allocate(shape: tuple[int, int]) -> NDArray[np.float32]:
        made.append(shape)
        return np.memmap(tmp_path / f"array{len(made)}", np.float32, "w+", shape=shape)

    logits = score_track(engine, *on_disk, sound, chunk_frames=16, allocate=allocate).logits
    assert_allclose(logits, score_track(engine, *track, sound).logits, atol=1e-4)
    assert made == [(FRAMES, 16), (FRAMES, 16), (FRAMES, 12)]


def test_only_the_audio_around_the_frames_is_used(
    engine: TorchEngine, track: Arrays, sound: AudioTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of audio must not be read for every chunk, and audio out of reach must have no influence."""
    given: list[int] = []
    fuse_audio = engine.fuse_audio

    def record(embedding: Any, times_s: Any, near: AudioTokens) -> Any:
        given.append(len(near.tokens))
        return fuse_audio(embedding, times_s, near)

    monkeypatch.setattr(engine, "fuse_audio", record)
    hours = AudioTokens(np.tile(sound.tokens, (900, 1)), track[2][0] - 720.0 + 0.02 * np.arange(72_000))
    near = fuse_nearby_audio(engine, track[0][:10], track[2][:10], hours)
    assert given[0] < 120
    whole = fuse_audio(track[0][:10], track[2][:10], hours)
    for ours, expected in zip(near, whole, strict=True):
        assert_allclose(ours, expected, atol=1e-5)
    later = AudioTokens(sound.tokens, sound.times_s + 100.0)
    silent = fuse_nearby_audio(engine, track[0], track[2], later)
    assert silent.audio_condition is silent.audio_logits is None
    assert_allclose(silent.x, track[0])


def test_full_trust_changes_nothing_and_no_trust_equals_no_sound(
    engine: TorchEngine, track: Arrays, sound: AudioTokens
) -> None:
    trusted, untrusted = np.ones(FRAMES, np.float32), np.zeros(FRAMES, np.float32)
    heard, silent = (score_track(engine, *track, each).logits for each in (sound, None))
    assert_array_equal(score_track(engine, *track, sound, trust=trusted).logits, heard)
    assert_array_equal(score_track(engine, *track, sound, trust=untrusted).logits, silent)
    half = score_track(engine, *track, sound, trust=0.5 * trusted).logits
    assert np.abs(half - heard).max() > 0.01
    assert np.abs(half - silent).max() > 0.01


def test_trust_scales_all_influence_of_the_sound_frame_by_frame(
    engine: TorchEngine, track: Arrays, sound: AudioTokens
) -> None:
    trust = np.linspace(0, 1, FRAMES).astype(np.float32)
    fused = fuse_nearby_audio(engine, track[0], track[2], sound)
    scaled = fuse_nearby_audio(engine, track[0], track[2], sound, trust)
    share = trust[:, None]
    assert_allclose(scaled.x, (1 - share) * track[0] + share * fused.x, atol=1e-5)
    assert fused.audio_condition is not None
    assert fused.audio_logits is not None
    assert_allclose(scaled.audio_condition, share * fused.audio_condition)
    assert_allclose(scaled.audio_logits, share * fused.audio_logits)


@pytest.mark.parametrize("chunk_frames", [1, 7, 32])
def test_the_opening_is_predicted_for_all_frames_and_for_the_sound_around_them(
    engine: TorchEngine, tiny_network: AuscanNetwork, track: Arrays, chunk_frames: int
) -> None:
    tokens = np.random.default_rng(1).standard_normal((900, 12)).astype(np.float32)
    audio = AudioTokens(tokens, track[2][0] - 3.0 + 0.02 * np.arange(900))
    predicted = predict_opening(engine, track[0], track[2], audio, chunk_frames)
    assert predicted is not None
    seen, heard = predicted
    near = (audio.times_s > track[2][0] - 0.42) & (audio.times_s < track[2][-1] + 0.42)
    assert near.sum() <= len(heard.times_s) < near.sum() + 10
    with torch.no_grad():
        temporal = tiny_network.temporal
        expected = temporal.opening(torch.from_numpy(track[0]), temporal.norm_audio(torch.from_numpy(tokens)))
    assert_allclose(seen, expected[0], atol=1e-5)
    assert_allclose(heard.heard, expected[1][np.isin(audio.times_s, heard.times_s)], atol=1e-5)


def test_without_sound_nearby_no_opening_is_predicted(
    engine: TorchEngine, track: Arrays, sound: AudioTokens
) -> None:
    assert predict_opening(engine, track[0], track[2], None) is None
    far = AudioTokens(sound.tokens, sound.times_s + 100.0)
    assert predict_opening(engine, track[0], track[2], far) is None
    format_1 = engine.config.model_copy(update={"format": 1})
    old = SimpleNamespace(config=format_1)
    assert predict_opening(cast(InferenceEngine, old), track[0], track[2], sound) is None


def test_a_file_is_read_further_where_the_offset_of_its_sound_is_searched(engine: TorchEngine) -> None:
    assert reading_margin_s(engine) == pytest.approx(audio_margin_s(engine) + 0.3)
    old: Any = SimpleNamespace(config=engine.config.model_copy(update={"format": 1}))
    assert reading_margin_s(old) == audio_margin_s(engine)


@pytest.mark.parametrize("chunk_frames", [1, 7, FRAMES])
def test_audio_gates_equal_those_of_the_network_and_are_zero_without_audio(
    engine: TorchEngine, tiny_network: AuscanNetwork, track: Arrays, sound: AudioTokens, chunk_frames: int
) -> None:
    gates = audio_gates(engine, track[0], track[2], sound, chunk_frames)
    valid = torch.ones(1, 80, dtype=torch.bool)
    audio = (torch.from_numpy(each)[None] for each in (sound.tokens, sound.times_s))
    with torch.no_grad():
        at_once = tiny_network.temporal.fusion(
            *(torch.from_numpy(each)[None] for each in track[::2]), *audio, valid
        )
    assert_allclose(gates, at_once.gate[0].numpy(), atol=1e-5)
    far = (track[2] < sound.times_s[0] - 0.5) | (track[2] > sound.times_s[-1] + 0.5)
    assert far.any()
    assert not far.all()
    assert ((gates == 0) == far).all()
    assert not audio_gates(engine, track[0], track[2], None, chunk_frames).any()


@pytest.mark.parametrize("count", [1, 2, FRAMES])
def test_elapsed_time_is_the_same_for_arrays_and_tensors(track: Arrays, count: int) -> None:
    times_s = track[2][:count]
    expected = elapsed_frames(torch.from_numpy(times_s)[None])
    for ours, theirs in zip(elapsed_frames(times_s), expected, strict=True):
        assert_array_equal(ours, theirs[0].numpy())
