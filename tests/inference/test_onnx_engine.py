"""Test that ONNX Runtime and PyTorch give the same results, stage by stage and end to end."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import write_checksums
from auscan.core.config import FusionConfig
from auscan.core.errors import CheckpointError, InputError
from auscan.inference.engine import AudioTokens, ScanState
from auscan.inference.load import load_engine
from auscan.inference.onnx_engine import OnnxEngine, align_audio
from auscan.inference.score_track import predict_opening, score_track
from auscan.inference.torch_engine import TorchEngine
from auscan.model.bidirectional import DIRECTIONS, Direction
from auscan.model.fusion import AsymmetricFusion, audio_at_frames, interpolate, tokens_before


@pytest.mark.parametrize("reach_s", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_numpy_and_torch_agree_on_the_audio_of_each_frame(seed: int, reach_s: float) -> None:
    """For frames before, in and after audio with a gap, at token times and at the edge of the reach."""
    random = np.random.default_rng(seed)
    token_s = 7200.0 + 0.02 * np.arange(60) + np.where(np.arange(60) > 30, 0.7, 0.0)
    frame_s = np.sort(
        np.concatenate(
            [random.uniform(7198.5, 7203.5, 60), token_s[::7], token_s[::9] + reach_s, token_s[::9] - reach_s]
        )
    )
    fusion = AsymmetricFusion(8, 6, FusionConfig(heads=2, reach_s=reach_s))
    ours = align_audio(frame_s, token_s, reach_s, fusion.window)

    times, tokens = torch.from_numpy(frame_s)[None], torch.from_numpy(token_s)[None]
    valid = torch.ones_like(tokens, dtype=torch.bool)
    first = tokens_before(times - reach_s, tokens, valid) - 1
    theirs = fusion._window(times, first, tokens, valid)
    assert_array_equal(ours.window, theirs.indices[0])
    assert_array_equal(ours.audible, theirs.audible[0])
    assert_allclose(ours.offset_s, theirs.offset_s[0], atol=1e-6)
    assert ours.audible.any()
    assert not ours.audible.any(1).all()

    sound = torch.randn(1, 60, 6, dtype=torch.float64)
    audio_condition, audible = audio_at_frames(sound, tokens, valid, times)
    places = torch.from_numpy(ours.neighbours)[None], torch.from_numpy(ours.weights.astype(np.float64))[None]
    assert_allclose(interpolate(sound, *places), audio_condition, atol=1e-6)
    assert_array_equal(ours.weights.any(1), audible[0])


CLOSE = 1e-4


@pytest.fixture(scope="module")
def engine(tiny_graphs: Path) -> OnnxEngine:
    return OnnxEngine(tiny_graphs, threads=1)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> TorchEngine:
    return TorchEngine(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("known", [[], [1], [0, 1, 5]])
def test_crops_of_any_number_and_mixture_are_encoded_the_same(
    engine: OnnxEngine, reference: TorchEngine, crops: NDArray[np.uint8], count: int, known: list[int]
) -> None:
    faces = [0, 1, 0, 0, 2, 1, 2, 1, 0][:count]
    previous = {face: normal(16, 16, seed=face) for face in known}
    ours, theirs = (each.encode_faces(crops[:count], faces, previous) for each in (engine, reference))
    for name in ("embedding", "au_tokens", "points", "pose_occlusion"):
        assert getattr(ours, name).dtype == np.float32
        assert_allclose(getattr(ours, name), getattr(theirs, name), atol=CLOSE, err_msg=name)
    assert set(ours.last_patches) == set(theirs.last_patches) == set(faces)
    for face, patches in ours.last_patches.items():
        assert_allclose(patches, theirs.last_patches[face], atol=CLOSE)


@pytest.mark.parametrize("known", [[], [1]])
def test_attributions_are_the_same(
    engine: OnnxEngine, reference: TorchEngine, crops: NDArray[np.uint8], known: list[int]
) -> None:
    previous = {face: normal(16, 16, seed=face) for face in known}
    faces = [0, 1, 0, 0, 2, 1, 2, 1, 0]
    ours, theirs = (
        each.encode_faces(crops, faces, previous, attributions=True) for each in (engine, reference)
    )
    shapes = {"patch_weights": (9, 16), "attention": (9, 12, 16), "gates": (9, 12)}
    for name, shape in shapes.items():
        actual, expected = getattr(ours.attributions, name), getattr(theirs.attributions, name)
        assert actual.shape == expected.shape == shape, name
        assert actual.dtype == expected.dtype == np.float32, name
        assert_allclose(actual, expected, atol=CLOSE, err_msg=name)
        assert np.std(expected) > 1e-3, name
    for each in (ours, theirs):
        assert_array_equal(each.gates, each.attributions.gates)
    attention = ours.attributions.attention
    assert ((attention > 0).sum(-1) == 6).all()
    assert (((attention > 0).any(1)) == (ours.attributions.patch_weights > 0)).all()
    assert_allclose(attention.sum(-1), 1.0, atol=CLOSE)
    for each in (engine, reference):
        assert each.has_attributions
        plain = each.encode_faces(crops, faces, previous)
        assert plain.attributions is None
        assert_allclose(plain.gates, theirs.gates, atol=CLOSE)


@pytest.mark.parametrize("samples", [0, 319, 320, 16_000, 33_333])
def test_sound_of_any_length_is_encoded_the_same(
    engine: OnnxEngine, reference: TorchEngine, samples: int
) -> None:
    sound = 0.1 * normal(samples)
    ours, theirs = (each.encode_audio(sound) for each in (engine, reference))
    assert ours.shape == theirs.shape == (samples // 320, 12)
    assert_allclose(ours, theirs, atol=CLOSE)


@pytest.mark.parametrize("frames", [1, 300])
@pytest.mark.parametrize("tokens", [0, 1, 200])
def test_audio_is_fused_the_same(
    engine: OnnxEngine, reference: TorchEngine, frames: int, tokens: int
) -> None:
    """For more frames than one call of the graph, and audio that ends before the frames."""
    sound = AudioTokens(normal(tokens, 12), 3.0 + 0.02 * np.arange(tokens))
    args = normal(frames, 16), 2.8 + 0.04 * np.arange(frames), sound
    fused, expected = engine.fuse_audio(*args), reference.fuse_audio(*args)
    for ours, theirs in zip(fused, expected, strict=True):
        assert theirs is not None
        assert_allclose(0.0 if ours is None else ours, theirs, atol=CLOSE)
    silent = engine.fuse_audio(*args[:2], None)
    assert silent.audio_condition is silent.audio_logits is None


@pytest.mark.parametrize("tokens", [0, 1, 200])
def test_the_opening_of_the_mouth_is_predicted_the_same(
    engine: OnnxEngine, reference: TorchEngine, tokens: int
) -> None:
    sound = AudioTokens(normal(tokens, 12), 0.02 * np.arange(tokens))
    for audio, heard in ((sound, tokens), (None, 0)):
        ours, theirs = (each.mouth_opening(normal(30, 16), audio) for each in (engine, reference))
        assert ours is not None
        assert theirs is not None
        assert (ours.seen.shape, ours.heard.shape) == ((30,), (heard,))
        assert_allclose(ours.seen, theirs.seen, atol=CLOSE)
        assert_allclose(ours.heard, theirs.heard, atol=CLOSE)


def test_a_checkpoint_of_format_1_predicts_no_opening_and_has_no_late_path() -> None:
    nano = OnnxEngine("nano")
    assert nano.mouth_opening(normal(3, 128), None) is None
    sound = AudioTokens(normal(20, 96), 0.02 * np.arange(20))
    assert nano.fuse_audio(normal(3, 128), 0.04 * np.arange(3), sound).audio_logits is None


@pytest.mark.parametrize("tokens", [0, 1, 200])
def test_the_audio_gate_is_the_same(engine: OnnxEngine, reference: TorchEngine, tokens: int) -> None:
    """The gate is 0 exactly for the frames that `fuse_audio` leaves unchanged."""
    sound = AudioTokens(normal(tokens, 12), 3.0 + 0.02 * np.arange(tokens))
    args = normal(300, 16), 2.0 + 0.04 * np.arange(300)
    gate = engine.audio_gate(*args, sound)
    assert gate.shape == (300,)
    assert_allclose(gate, reference.audio_gate(*args, sound), atol=CLOSE)
    unmoved = (engine.fuse_audio(*args, sound).x == args[0]).all(axis=1)
    assert ((gate == 0) == unmoved).all()
    assert unmoved.any()
    assert (gate[~unmoved] < 1).all()
    assert not engine.audio_gate(*args, None).any()
    assert not reference.audio_gate(*args, None).any()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("frames", [1, 5, 300])
@pytest.mark.parametrize("with_audio", [False, True])
def test_a_scan_from_a_state_is_the_same(
    engine: OnnxEngine, reference: TorchEngine, direction: Direction, frames: int, with_audio: bool
) -> None:
    """For more frames than one call of a graph, without a state and with a state from the other engine."""
    x, audio_condition = normal(frames, 16), normal(frames, 12, seed=1) if with_audio else None
    elapsed = np.random.default_rng(2).uniform(0.0, 3.0, frames)
    state: ScanState | None = None
    for block in range(engine.blocks):
        ours, theirs = (
            each.scan_block(block, direction, x, audio_condition, elapsed, state)
            for each in (engine, reference)
        )
        assert_allclose(ours[0], theirs[0], atol=CLOSE)
        for actual, expected in zip(ours[1], theirs[1], strict=True):
            assert actual.shape == expected.shape
            assert_allclose(actual, expected, atol=CLOSE)
        state = theirs[1] if block else ours[1]


@pytest.mark.parametrize("with_sound", [False, True])
def test_a_track_gets_the_same_logits(
    engine: OnnxEngine, reference: TorchEngine, crops: NDArray[np.uint8], with_sound: bool
) -> None:
    """Each engine starts from crops and samples."""
    times_s = 100.0 + 0.04 * np.arange(len(crops))
    logits = []
    for each in (engine, reference):
        features = each.encode_faces(crops, [0] * len(crops), {})
        tokens = each.encode_audio(0.1 * normal(6400))
        sound = AudioTokens(tokens, 100.0 + 0.02 * np.arange(len(tokens))) if with_sound else None
        logits.append(
            score_track(each, features.embedding, features.au_tokens, times_s, sound, chunk_frames=4).logits
        )
    assert_allclose(*logits, atol=CLOSE)


def test_graphs_are_preferred_unless_a_gpu_is_requested(tiny_graphs: Path, tiny_checkpoint: Path) -> None:
    assert isinstance(load_engine(tiny_graphs), OnnxEngine)
    assert isinstance(load_engine(tiny_graphs, device="cpu", threads=1), OnnxEngine)
    assert isinstance(load_engine(tiny_checkpoint), TorchEngine)
    assert isinstance(load_engine("nano", backend="torch"), TorchEngine)
    assert load_engine(tiny_graphs).config == load_engine(tiny_checkpoint).config


@pytest.mark.parametrize("frames", [1, 40])
def test_the_opening_of_a_track_is_predicted_the_same(
    engine: OnnxEngine, reference: TorchEngine, frames: int
) -> None:
    embedding, times_s = normal(frames, 16), 0.04 * np.arange(frames)
    sound = AudioTokens(normal(100, 12), 0.02 * np.arange(100))
    ours, theirs = (predict_opening(each, embedding, times_s, sound, 16) for each in (engine, reference))
    assert ours is not None
    assert theirs is not None
    assert_allclose(ours[0], theirs[0], atol=CLOSE)
    assert_allclose(ours[1].heard, theirs[1].heard, atol=CLOSE)
    assert np.std(theirs[1].heard) > 1e-3


def test_the_onnx_backend_refuses_a_gpu(tiny_graphs: Path) -> None:
    with pytest.raises(InputError, match=r"onnx runs on the CPU only.*torch for cuda:0"):
        load_engine(tiny_graphs, backend="onnx", device="cuda:0")


def test_graphs_of_an_early_version_run_without_attributions(
    tiny_graphs: Path, tmp_path: Path, crops: NDArray[np.uint8]
) -> None:
    import onnx

    folder = shutil.copytree(tiny_graphs, tmp_path / "earlier")
    for name, added in {"visual": ("patch_weights", "attention", "gates"), "hear": ("gate",)}.items():
        model = onnx.load(folder / f"{name}.onnx")
        kept = [each for each in model.graph.output if each.name not in added]
        del model.graph.output[:]
        model.graph.output.extend(kept)
        onnx.save(model, folder / f"{name}.onnx")
    write_checksums(folder)
    earlier, now = OnnxEngine(folder), OnnxEngine(tiny_graphs)
    assert not earlier.has_attributions
    assert_allclose(
        earlier.encode_faces(crops, [0] * 9, {}).points,
        now.encode_faces(crops, [0] * 9, {}).points,
        atol=1e-5,
    )
    with pytest.raises(CheckpointError, match=r"visual\.onnx of tiny.*attention.*auscan export"):
        earlier.encode_faces(crops, [0] * 9, {}, attributions=True)
    sound = AudioTokens(normal(9, 12), 0.02 * np.arange(9))
    with pytest.raises(CheckpointError, match=r"hear\.onnx of tiny.*gate.*auscan export"):
        earlier.audio_gate(normal(9, 16), 0.04 * np.arange(9), sound)


def test_the_error_for_a_checkpoint_without_graphs_names_the_export_command(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"visual\.onnx is missing.*auscan export"):
        load_engine(tiny_checkpoint, backend="onnx")


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_broken_graph_is_named(tiny_graphs: Path, tmp_path: Path, content: bytes) -> None:
    broken = shutil.copytree(tiny_graphs, tmp_path / "broken")
    (broken / "hear.onnx").write_bytes(content)
    write_checksums(broken)
    with pytest.raises(CheckpointError, match=r"hear\.onnx cannot be read"):
        load_engine(broken)
