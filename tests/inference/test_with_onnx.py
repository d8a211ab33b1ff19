"""ONNX Runtime gives PyTorch's numbers, stage by stage and from end to end."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from auscan.core.errors import CheckpointError, InputError
from auscan.inference import with_onnx
from auscan.inference.follow import follow
from auscan.inference.stages import AudioTokens, SweepState, load
from auscan.inference.with_onnx import OnnxStages
from auscan.inference.with_torch import TorchStages

CLOSE = 1e-4


@pytest.fixture(scope="module")
def stages(tiny_graphs: Path) -> OnnxStages:
    return OnnxStages(tiny_graphs, threads=1)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> TorchStages:
    return TorchStages(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("known", [[], [1], [0, 1, 5]])
def test_crops_of_any_number_and_mixture_look_the_same(
    stages: OnnxStages, reference: TorchStages, crops: NDArray[np.uint8], count: int, known: list[int]
) -> None:
    faces = [0, 1, 0, 0, 2, 1, 2, 1, 0][:count]
    previous = {face: normal(16, 16, seed=face) for face in known}
    ours, theirs = (each.look(crops[:count], faces, previous) for each in (stages, reference))
    for name in ("embedding", "au_tokens", "points", "sight"):
        assert getattr(ours, name).dtype == np.float32
        assert_allclose(getattr(ours, name), getattr(theirs, name), atol=CLOSE, err_msg=name)
    assert set(ours.last_patches) == set(theirs.last_patches) == set(faces)
    for face, patches in ours.last_patches.items():
        assert_allclose(patches, theirs.last_patches[face], atol=CLOSE)


@pytest.mark.parametrize("samples", [0, 319, 320, 16_000, 33_333])
def test_sound_of_any_length_is_encoded_the_same(
    stages: OnnxStages, reference: TorchStages, samples: int
) -> None:
    sound = 0.1 * normal(samples)
    ours, theirs = (each.encode_sound(sound) for each in (stages, reference))
    assert ours.shape == theirs.shape == (samples // 320, 12)
    assert_allclose(ours, theirs, atol=CLOSE)


@pytest.mark.parametrize("frames", [1, 300])
@pytest.mark.parametrize("tokens", [0, 1, 200])
def test_frames_hear_the_same(stages: OnnxStages, reference: TorchStages, frames: int, tokens: int) -> None:
    """More frames than the graph is given at once; sound that ends before the frames do."""
    sound = AudioTokens(normal(tokens, 12), 3.0 + 0.02 * np.arange(tokens))
    asked = normal(frames, 16), 2.8 + 0.04 * np.arange(frames), sound
    (x, guide), (expected_x, expected_guide) = stages.hear(*asked), reference.hear(*asked)
    assert_allclose(x, expected_x, atol=CLOSE)
    assert_allclose(0.0 if guide is None else guide, expected_guide, atol=CLOSE)
    assert stages.hear(*asked[:2], None)[1] is None


@pytest.mark.parametrize("direction", ["ahead", "back"])
@pytest.mark.parametrize("frames", [1, 5, 300])
@pytest.mark.parametrize("with_guide", [False, True])
def test_a_sweep_from_a_state_is_the_same(
    stages: OnnxStages, reference: TorchStages, direction: with_onnx.Direction, frames: int, with_guide: bool
) -> None:
    """More frames than a graph takes; a fresh start and a state that went through the other engine."""
    x, guide = normal(frames, 16), normal(frames, 12, seed=1) if with_guide else None
    elapsed = np.random.default_rng(2).uniform(0.0, 3.0, frames)
    state: SweepState | None = None
    for block in range(stages.blocks):
        ours, theirs = (
            each.sweep(block, direction, x, guide, elapsed, state) for each in (stages, reference)
        )
        assert_allclose(ours[0], theirs[0], atol=CLOSE)
        for mine, its in zip(ours[1], theirs[1], strict=True):
            assert mine.shape == its.shape
            assert_allclose(mine, its, atol=CLOSE)
        state = theirs[1] if block else ours[1]


@pytest.mark.parametrize("with_sound", [False, True])
def test_a_track_gets_the_same_logits(
    stages: OnnxStages, reference: TorchStages, crops: NDArray[np.uint8], with_sound: bool
) -> None:
    """From crops and samples on, each engine by itself."""
    times_s = 100.0 + 0.04 * np.arange(len(crops))
    logits = []
    for engine in (stages, reference):
        looked = engine.look(crops, [0] * len(crops), {})
        tokens = engine.encode_sound(0.1 * normal(6400))
        sound = AudioTokens(tokens, 100.0 + 0.02 * np.arange(len(tokens))) if with_sound else None
        logits.append(follow(engine, looked.embedding, looked.au_tokens, times_s, sound, stretch=4))
    assert_allclose(*logits, atol=CLOSE)


def test_the_graphs_are_taken_where_there_are_any_and_no_gpu_is_asked_for(
    tiny_graphs: Path, tiny_checkpoint: Path
) -> None:
    assert isinstance(load(tiny_graphs), OnnxStages)
    assert isinstance(load(tiny_graphs, device="cpu", threads=1), OnnxStages)
    assert isinstance(load(tiny_checkpoint), TorchStages)
    assert isinstance(load("nano", backend="torch"), TorchStages)
    assert load(tiny_graphs).config == load(tiny_checkpoint).config


def test_the_onnx_backend_knows_no_gpu(tiny_graphs: Path) -> None:
    with pytest.raises(InputError, match=r"onnx runs on the CPU only.*torch for cuda:0"):
        load(tiny_graphs, backend="onnx", device="cuda:0")


def test_a_checkpoint_without_graphs_says_how_to_write_them(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"visual\.onnx is missing.*auscan export"):
        load(tiny_checkpoint, backend="onnx")


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_broken_graph_is_named(tiny_graphs: Path, tmp_path: Path, content: bytes) -> None:
    broken = shutil.copytree(tiny_graphs, tmp_path / "broken")
    (broken / "hear.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"hear\.onnx cannot be read"):
        load(broken)
