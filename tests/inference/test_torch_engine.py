"""Test the PyTorch engine: shapes and types of its outputs, and equality with the network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.errors import CheckpointError, InputError
from auscan.inference.engine import AudioTokens, InferenceEngine, VisualFeatures
from auscan.inference.load import load_engine
from auscan.inference.score_track import score_track
from auscan.inference.torch_engine import TorchEngine
from auscan.model.network import AudioInput, AuscanNetwork

FRAMES = 12
FACE = 3


def encode_face(
    engine: InferenceEngine, crops: NDArray[np.uint8], previous: dict[int, NDArray[np.float32]] | None = None
) -> VisualFeatures:
    """Encode crops of one face."""
    return engine.encode_faces(crops, [FACE] * len(crops), previous or {})


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> TorchEngine:
    return TorchEngine(tiny_checkpoint)


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sound(engine: TorchEngine) -> AudioTokens:
    samples = (0.1 * np.random.default_rng(1).standard_normal(SAMPLE_RATE_HZ // 2)).astype(np.float32)
    tokens = engine.encode_audio(samples)
    return AudioTokens(tokens, 7200.0 + 0.02 * (np.arange(len(tokens)) + 0.5))


def times_s() -> NDArray[np.float64]:
    return 7200.0 + np.arange(FRAMES) / 25


def test_each_stage_returns_float32_arrays_of_documented_shape(
    engine: TorchEngine, crops: NDArray[np.uint8], sound: AudioTokens
) -> None:
    features = encode_face(engine, crops)
    logits = score_track(engine, features.embedding, features.au_tokens, times_s(), sound).logits
    arrays = {
        "embedding": (features.embedding, (FRAMES, 16)),
        "au_tokens": (features.au_tokens, (FRAMES, 12, 4)),
        "points": (features.points, (FRAMES, 5, 2)),
        "pose_occlusion": (features.pose_occlusion, (FRAMES, 3)),
        "last_patches": (features.last_patches[FACE], (16, 16)),
        "tokens": (sound.tokens, (25, 12)),
        "logits": (logits, (FRAMES, 12)),
    }
    for name, (array, shape) in arrays.items():
        assert type(array) is np.ndarray, name
        assert array.dtype == np.float32, name
        assert array.shape == shape, name


@pytest.mark.parametrize("with_sound", [False, True])
def test_the_engine_returns_the_logits_of_the_network(
    engine: TorchEngine,
    crops: NDArray[np.uint8],
    sound: AudioTokens,
    tiny_network: AuscanNetwork,
    with_sound: bool,
) -> None:
    features = encode_face(engine, crops)
    logits = score_track(
        engine, features.embedding, features.au_tokens, times_s(), sound if with_sound else None
    ).logits
    audio = None
    if with_sound:
        tokens = torch.from_numpy(sound.tokens)[None]
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
        audio = AudioInput(tokens, torch.from_numpy(sound.times_s)[None], valid)
    with torch.no_grad():
        whole = tiny_network(torch.from_numpy(crops)[None], torch.from_numpy(times_s())[None], audio)
    assert_allclose(logits, whole[0].numpy(), atol=1e-4)


def test_sound_and_its_time_matter(engine: TorchEngine, crops: NDArray[np.uint8], sound: AudioTokens) -> None:
    """At 7200 s float32 could not distinguish the times of neighbouring tokens."""
    features = encode_face(engine, crops)

    def logits(audio: AudioTokens | None) -> NDArray[np.float32]:
        return score_track(engine, features.embedding, features.au_tokens, times_s(), audio).logits

    late = AudioTokens(sound.tokens, sound.times_s + 0.06)
    assert np.abs(logits(sound) - logits(None)).max() > 1e-3
    assert np.abs(logits(sound) - logits(late)).max() > 1e-3


@pytest.mark.parametrize("cut", [1, 5, FRAMES - 1])
def test_a_track_may_be_encoded_in_chunks(engine: TorchEngine, crops: NDArray[np.uint8], cut: int) -> None:
    whole = encode_face(engine, crops)
    first = encode_face(engine, crops[:cut])
    second = encode_face(engine, crops[cut:], first.last_patches)
    for name in ("embedding", "au_tokens", "points"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        assert_allclose(joined, getattr(whole, name), atol=1e-4, rtol=1e-4)
    assert_allclose(second.last_patches[FACE], whole.last_patches[FACE], atol=1e-4, rtol=1e-4)


def test_crops_of_several_faces_in_one_call_are_encoded_as_in_separate_calls(
    engine: TorchEngine, crops: NDArray[np.uint8]
) -> None:
    """For mixed faces, with and without patches from an earlier call."""
    faces = [4, 7, 4, 4, 9, 7, 9, 4, 7, 7, 9, 4]
    earlier = encode_face(engine, crops[::-1]).last_patches[FACE]
    mixed = engine.encode_faces(crops, faces, {7: earlier, 8: earlier})
    assert set(mixed.last_patches) == {4, 7, 9}
    for face in (4, 7, 9):
        rows = [row for row, each in enumerate(faces) if each == face]
        alone = encode_face(engine, crops[rows], {FACE: earlier} if face == 7 else {})
        for name in ("embedding", "au_tokens", "points"):
            assert_allclose(getattr(mixed, name)[rows], getattr(alone, name), atol=1e-4, rtol=1e-4)
        assert_allclose(mixed.last_patches[face], alone.last_patches[FACE], atol=1e-4, rtol=1e-4)
    unknown = engine.encode_faces(crops, faces, {})
    assert np.abs(unknown.embedding - mixed.embedding)[1].max() > 1e-3
    assert np.abs(unknown.embedding - mixed.embedding)[0].max() < 1e-4


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_missing_device_is_named(tiny_checkpoint: Path, device: str) -> None:
    with pytest.raises(InputError, match=device):
        TorchEngine(tiny_checkpoint, device)


def test_the_memory_layout_of_crops_does_not_matter(engine: TorchEngine, crops: NDArray[np.uint8]) -> None:
    strided = np.asfortranarray(crops)
    assert_array_equal(encode_face(engine, strided).points, encode_face(engine, crops).points)


def test_load_engine_returns_an_engine_with_its_config(tiny_checkpoint: Path) -> None:
    engine: InferenceEngine = load_engine(tiny_checkpoint)
    assert engine.config.name == "tiny"
    assert engine.config.untrained_aus == ("AU23",)


def test_load_engine_refuses_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_engine(tmp_path / "nowhere")
