"""Calibrated probabilities keep the order of frames; what was not taught stays unknown.

A whole track in stretches is what the network makes of it at once, whatever it is cut into.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.special import expit

from auscan.core.config import UNCALIBRATED, Calibration, CheckpointConfig, nano
from auscan.inference.engine import AudioTokens
from auscan.inference.score_track import (
    audio_gates,
    calibrate,
    elapsed_frames,
    follow,
    hear_around,
    logits_of,
    probabilities,
)
from auscan.inference.torch_engine import TorchStages
from auscan.model import mamba
from auscan.model.network import AuscanNetwork, Sound

LOGITS = np.sort(np.random.default_rng(0).normal(0, 4, (50, 12)), axis=0).astype(np.float32)
CALIBRATION = Calibration(
    scale=tuple(np.linspace(0.2, 3, 12).tolist()), shift=tuple(np.linspace(-2, 2, 12).tolist())
)


def test_without_a_calibration_probabilities_are_the_sigmoid() -> None:
    np.testing.assert_allclose(calibrate(LOGITS, UNCALIBRATED), expit(LOGITS.astype(float)))


def test_calibrated_probabilities_are_those_of_the_definition_and_rise_with_the_logits() -> None:
    said = calibrate(LOGITS, CALIBRATION)
    for j in range(12):
        expected = expit(CALIBRATION.scale[j] * LOGITS[:, j].astype(float) + CALIBRATION.shift[j])
        np.testing.assert_allclose(said[:, j], expected)
    assert (np.diff(said, axis=0) > 0).all()


def test_an_untaught_au_is_unknown_whatever_its_calibration() -> None:
    config = CheckpointConfig(
        name="a", untaught=("AU23",), calibration=CALIBRATION, auscan_version="0", network=nano()
    )
    said = probabilities(LOGITS, config)
    assert said.dtype == np.float32
    assert np.isnan(said[:, 8]).all()
    assert not np.isnan(np.delete(said, 8, axis=1)).any()


def test_probabilities_lead_back_to_their_logits() -> None:
    near = np.clip(LOGITS, -12, 12)
    np.testing.assert_allclose(logits_of(calibrate(near, UNCALIBRATED)), near, atol=1e-6)
    assert np.abs(logits_of(np.array([0.0, 1.0]))).max() == pytest.approx(16.1, abs=0.1)
    assert np.isnan(logits_of(np.array([np.nan]))).all()


FRAMES = 70
Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]


@pytest.fixture(scope="module")
def stages(tiny_checkpoint: Path) -> TorchStages:
    return TorchStages(tiny_checkpoint)


@pytest.fixture(scope="module")
def track() -> Arrays:
    """Embedding, AU tokens and times of a face at about 25 frames a second that is gone for 3 s."""
    random = np.random.default_rng(0)
    embedding, au_tokens = (
        random.standard_normal((FRAMES, *shape)).astype(np.float32) for shape in ((16,), (12, 4))
    )
    times_s = 7200.0 + np.cumsum(random.uniform(0.02, 0.06, FRAMES))
    times_s[40:] += 3.0
    return embedding, au_tokens, times_s


@pytest.fixture(scope="module")
def sound(track: Arrays) -> AudioTokens:
    """Sound that begins 0.7 s after the face and ends before it does."""
    times_s = track[2][0] + 0.7 + 0.02 * np.arange(80)
    tokens = np.random.default_rng(1).standard_normal((80, 12)).astype(np.float32)
    return AudioTokens(tokens, times_s)


def at_once(network: AuscanNetwork, track: Arrays, sound: AudioTokens | None) -> NDArray[np.float32]:
    heard = None
    if sound is not None:
        tokens = torch.from_numpy(sound.tokens)[None]
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
        heard = Sound(tokens, torch.from_numpy(sound.times_s)[None], valid)
    with torch.no_grad():
        logits: torch.Tensor = network.temporal(*(torch.from_numpy(each)[None] for each in track), heard)
    return logits[0].numpy()


@pytest.mark.parametrize("stretch", [1, 7, 32, FRAMES, 2048])
@pytest.mark.parametrize("with_sound", [False, True])
def test_a_track_in_stretches_is_the_network_at_once(
    stages: TorchStages,
    tiny_network: AuscanNetwork,
    track: Arrays,
    sound: AudioTokens,
    stretch: int,
    with_sound: bool,
) -> None:
    heard = sound if with_sound else None
    logits = follow(stages, *track, heard, stretch=stretch)
    assert logits.dtype == np.float32
    assert_allclose(logits, at_once(tiny_network, track, heard), atol=1e-4)


def test_a_track_on_disk_is_read_and_left_as_it_was(
    stages: TorchStages, track: Arrays, sound: AudioTokens, tmp_path: Path
) -> None:
    """Memmaps in, memmaps to work in: a long track never is in memory as a whole."""
    for name, array in zip("abc", track, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    on_disk: Any = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "abc"]
    made: list[tuple[int, ...]] = []

    def room(shape: tuple[int, int]) -> NDArray[np.float32]:
        made.append(shape)
        return np.memmap(tmp_path / f"room{len(made)}", np.float32, "w+", shape=shape)

    logits = follow(stages, *on_disk, sound, stretch=16, room=room)
    assert_allclose(logits, follow(stages, *track, sound), atol=1e-4)
    assert made == [(FRAMES, 16), (FRAMES, 16), (FRAMES, 12)]


def test_frames_are_given_only_the_sound_around_them(
    stages: TorchStages, track: Arrays, sound: AudioTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of sound must not be read again for every stretch; and what is out of reach says nothing."""
    given: list[int] = []
    hear = stages.hear

    def watched(embedding: Any, times_s: Any, near: AudioTokens) -> Any:
        given.append(len(near.tokens))
        return hear(embedding, times_s, near)

    monkeypatch.setattr(stages, "hear", watched)
    hours = AudioTokens(np.tile(sound.tokens, (900, 1)), track[2][0] - 720.0 + 0.02 * np.arange(72_000))
    x, guide = hear_around(stages, track[0][:10], track[2][:10], hours)
    assert given[0] < 120
    whole_x, whole_guide = hear(track[0][:10], track[2][:10], hours)
    assert_allclose(x, whole_x, atol=1e-5)
    assert guide is not None
    assert whole_guide is not None
    assert_allclose(guide, whole_guide, atol=1e-6)
    later = AudioTokens(sound.tokens, sound.times_s + 100.0)
    x, guide = hear_around(stages, track[0], track[2], later)
    assert guide is None
    assert_allclose(x, track[0])


@pytest.mark.parametrize("stretch", [1, 7, FRAMES])
def test_the_gate_is_the_networks_and_closed_where_there_is_no_sound(
    stages: TorchStages, tiny_network: AuscanNetwork, track: Arrays, sound: AudioTokens, stretch: int
) -> None:
    gates = audio_gates(stages, track[0], track[2], sound, stretch)
    valid = torch.ones(1, 80, dtype=torch.bool)
    heard = (torch.from_numpy(each)[None] for each in (sound.tokens, sound.times_s))
    with torch.no_grad():
        _, at_once = tiny_network.temporal.fusion(
            *(torch.from_numpy(each)[None] for each in track[::2]), *heard, valid
        )
    assert_allclose(gates, at_once[0].numpy(), atol=1e-5)
    far = (track[2] < sound.times_s[0] - 0.5) | (track[2] > sound.times_s[-1] + 0.5)
    assert far.any()
    assert not far.all()
    assert ((gates == 0) == far).all()
    assert not audio_gates(stages, track[0], track[2], None, stretch).any()


@pytest.mark.parametrize("count", [1, 2, FRAMES])
def test_time_is_counted_as_in_the_network(track: Arrays, count: int) -> None:
    times_s = track[2][:count]
    expected = mamba.elapsed_frames(torch.from_numpy(times_s)[None])
    for ours, theirs in zip(elapsed_frames(times_s), expected, strict=True):
        assert_allclose(ours, theirs[0].numpy(), rtol=1e-12)
