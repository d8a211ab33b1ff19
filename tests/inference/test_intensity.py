"""Intensities, and checkpoints with other AUs than the twelve, in both engines."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import EXPORT_FILE, graph_names, read_config
from auscan.inference.engine import AudioTokens, InferenceEngine
from auscan.inference.onnx_engine import OnnxEngine
from auscan.inference.score_track import FrameScores, probabilities, score_track, trained_intensities
from auscan.inference.torch_engine import TorchEngine
from auscan.model.head import to_intensity
from auscan.model.network import AudioInput

NAMES = ("AU45", "AU12", "AU05", "AU25", "AU09")
FRAMES = 30


@pytest.fixture(scope="module")
def engine(other_aus_checkpoint: Path) -> TorchEngine:
    return TorchEngine(other_aus_checkpoint, "cpu")


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sound(engine: TorchEngine) -> AudioTokens:
    samples = 0.1 * np.random.default_rng(1).standard_normal(FRAMES * 640).astype(np.float32)
    tokens = engine.encode_audio(samples)
    return AudioTokens(tokens, (np.arange(len(tokens)) + 0.5) / 50)


def score(
    engine: InferenceEngine, crops: NDArray[np.uint8], sound: AudioTokens | None, chunk_frames: int = 2048
) -> FrameScores:
    features = engine.encode_faces(crops, [0] * len(crops), {})
    times_s = np.arange(len(crops)) / 25
    return score_track(engine, features.embedding, features.au_tokens, times_s, sound, chunk_frames)


@pytest.mark.parametrize("with_sound", [True, False])
@pytest.mark.parametrize("chunk_frames", [7, 2048])
def test_scores_of_a_track_are_those_of_the_network(
    engine: TorchEngine, crops: NDArray[np.uint8], sound: AudioTokens, with_sound: bool, chunk_frames: int
) -> None:
    scores = score(engine, crops, sound if with_sound else None, chunk_frames)
    audio = None
    if with_sound:
        tokens = torch.from_numpy(sound.tokens)[None]
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
        audio = AudioInput(tokens, torch.from_numpy(sound.times_s)[None], valid)
    network = engine.network
    with torch.no_grad():
        aligned = network.visual(torch.from_numpy(crops)[None]).aligned
        times_s = torch.from_numpy(np.arange(FRAMES) / 25)[None]
        expected = network.temporal(aligned.embedding, aligned.au_tokens, times_s, audio)
    assert scores.logits.shape == (FRAMES, 5)
    assert_allclose(scores.logits, expected.logits[0], atol=1e-4)
    assert scores.intensity is not None
    assert_allclose(scores.intensity, to_intensity(expected.intensity_logits)[0], atol=1e-4)


def test_a_higher_logit_gives_a_higher_intensity(engine: TorchEngine, crops: NDArray[np.uint8]) -> None:
    features = engine.encode_faces(crops, [0] * FRAMES, {})
    x, au_tokens = features.embedding, features.au_tokens
    logits = engine.classify(x, au_tokens)
    higher = engine.intensity(x, au_tokens, logits + 1) - engine.intensity(x, au_tokens, logits)
    assert (higher > 0).all()


def test_onnx_runtime_gives_the_logits_and_intensities_of_pytorch(
    engine: TorchEngine, other_aus_graphs: Path, crops: NDArray[np.uint8], sound: AudioTokens
) -> None:
    other = OnnxEngine(other_aus_graphs, threads=1)
    assert other.config.au_names == engine.config.au_names == NAMES
    for audio in (None, sound):
        ours, theirs = score(engine, crops, audio, 8), score(other, crops, audio, 8)
        assert_allclose(theirs.logits, ours.logits, atol=1e-4)
        assert ours.intensity is not None
        assert theirs.intensity is not None
        assert_allclose(theirs.intensity, ours.intensity, atol=1e-4)


def test_an_export_compares_intensities_and_only_such_a_checkpoint_has_their_graph(
    other_aus_graphs: Path, tiny_graphs: Path
) -> None:
    for folder, expected in ((other_aus_graphs, True), (tiny_graphs, False)):
        files = {file.stem for file in folder.glob("*.onnx")}
        assert files == set(graph_names(read_config(folder)))
        assert ("intensity" in files) is expected
        differences = json.loads((folder / EXPORT_FILE).read_text("utf-8"))["differences"]
        assert all(("intensity" in each) is expected for each in differences.values())
        assert all(value < 1e-4 for each in differences.values() for value in each.values())


def test_untrained_aus_and_intensities_are_unknown(
    engine: TorchEngine, crops: NDArray[np.uint8], sound: AudioTokens
) -> None:
    """AU05 was never trained, of AU25 only the detection."""
    scores = score(engine, crops, sound)
    found = probabilities(scores.logits, engine.config)
    intensity = trained_intensities(scores.intensity, engine.config)
    assert intensity is not None
    assert scores.intensity is not None
    assert np.isnan(found).all(axis=0).tolist() == [False, False, True, False, False]
    assert np.isnan(intensity).all(axis=0).tolist() == [False, False, True, True, False]
    assert_array_equal(intensity[:, [0, 1, 4]], scores.intensity[:, [0, 1, 4]])
    assert intensity.dtype == np.float32


def test_a_checkpoint_without_intensities_has_none(tiny_checkpoint: Path, crops: NDArray[np.uint8]) -> None:
    engine = TorchEngine(tiny_checkpoint, "cpu")
    assert not engine.config.network.intensity
    assert score(engine, crops, None).intensity is None
    assert trained_intensities(None, engine.config) is None
