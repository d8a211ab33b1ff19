"""The PyTorch engine keeps the contract of the stages: arrays in, the network's own numbers out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.errors import CheckpointError, InputError
from auscan.inference.engine import AudioTokens, FaceFeatures, Stages, load
from auscan.inference.score_track import follow
from auscan.inference.torch_engine import TorchStages
from auscan.model.network import AuscanNetwork, Sound

FRAMES = 12
FACE = 3


def look(
    stages: Stages, crops: NDArray[np.uint8], previous: dict[int, NDArray[np.float32]] | None = None
) -> FaceFeatures:
    """Crops of one face."""
    return stages.look(crops, [FACE] * len(crops), previous or {})


@pytest.fixture(scope="module")
def stages(tiny_checkpoint: Path) -> TorchStages:
    return TorchStages(tiny_checkpoint)


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sound(stages: TorchStages) -> AudioTokens:
    samples = (0.1 * np.random.default_rng(1).standard_normal(SAMPLE_RATE_HZ // 2)).astype(np.float32)
    tokens = stages.encode_sound(samples)
    return AudioTokens(tokens, 7200.0 + 0.02 * (np.arange(len(tokens)) + 0.5))


def times_s() -> NDArray[np.float64]:
    return 7200.0 + np.arange(FRAMES) / 25


def test_each_stage_gives_float32_arrays_of_its_shapes(
    stages: TorchStages, crops: NDArray[np.uint8], sound: AudioTokens
) -> None:
    features = look(stages, crops)
    logits = follow(stages, features.embedding, features.au_tokens, times_s(), sound)
    arrays = {
        "embedding": (features.embedding, (FRAMES, 16)),
        "au_tokens": (features.au_tokens, (FRAMES, 12, 4)),
        "points": (features.points, (FRAMES, 5, 2)),
        "sight": (features.sight, (FRAMES, 3)),
        "last_patches": (features.last_patches[FACE], (16, 16)),
        "tokens": (sound.tokens, (25, 12)),
        "logits": (logits, (FRAMES, 12)),
    }
    for name, (array, shape) in arrays.items():
        assert type(array) is np.ndarray, name
        assert array.dtype == np.float32, name
        assert array.shape == shape, name


@pytest.mark.parametrize("with_sound", [False, True])
def test_the_stages_in_a_row_are_the_network(
    stages: TorchStages,
    crops: NDArray[np.uint8],
    sound: AudioTokens,
    tiny_network: AuscanNetwork,
    with_sound: bool,
) -> None:
    features = look(stages, crops)
    logits = follow(stages, features.embedding, features.au_tokens, times_s(), sound if with_sound else None)
    heard = None
    if with_sound:
        tokens = torch.from_numpy(sound.tokens)[None]
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
        heard = Sound(tokens, torch.from_numpy(sound.times_s)[None], valid)
    with torch.no_grad():
        whole = tiny_network(torch.from_numpy(crops)[None], torch.from_numpy(times_s())[None], heard)
    assert_allclose(logits, whole[0].numpy(), atol=1e-4)


def test_sound_matters_and_so_does_when_it_comes(
    stages: TorchStages, crops: NDArray[np.uint8], sound: AudioTokens
) -> None:
    """At 7200 s float32 would put all tokens of a frame's neighbourhood on one moment."""
    features = look(stages, crops)

    def logits(heard: AudioTokens | None) -> NDArray[np.float32]:
        return follow(stages, features.embedding, features.au_tokens, times_s(), heard)

    late = AudioTokens(sound.tokens, sound.times_s + 0.06)
    assert np.abs(logits(sound) - logits(None)).max() > 1e-3
    assert np.abs(logits(sound) - logits(late)).max() > 1e-3


@pytest.mark.parametrize("cut", [1, 5, FRAMES - 1])
def test_a_track_may_be_looked_at_in_stretches(
    stages: TorchStages, crops: NDArray[np.uint8], cut: int
) -> None:
    whole = look(stages, crops)
    first = look(stages, crops[:cut])
    second = look(stages, crops[cut:], first.last_patches)
    for name in ("embedding", "au_tokens", "points"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        assert_allclose(joined, getattr(whole, name), atol=1e-4, rtol=1e-4)
    assert_allclose(second.last_patches[FACE], whole.last_patches[FACE], atol=1e-4, rtol=1e-4)


def test_crops_of_several_faces_in_one_call_are_read_as_if_each_came_alone(
    stages: TorchStages, crops: NDArray[np.uint8]
) -> None:
    """Whatever their mixture, and whether a face was seen before or has just appeared."""
    faces = [4, 7, 4, 4, 9, 7, 9, 4, 7, 7, 9, 4]
    earlier = look(stages, crops[::-1]).last_patches[FACE]
    mixed = stages.look(crops, faces, {7: earlier, 8: earlier})
    assert set(mixed.last_patches) == {4, 7, 9}
    for face in (4, 7, 9):
        rows = [row for row, each in enumerate(faces) if each == face]
        alone = look(stages, crops[rows], {FACE: earlier} if face == 7 else {})
        for name in ("embedding", "au_tokens", "points"):
            assert_allclose(getattr(mixed, name)[rows], getattr(alone, name), atol=1e-4, rtol=1e-4)
        assert_allclose(mixed.last_patches[face], alone.last_patches[FACE], atol=1e-4, rtol=1e-4)
    unknown = stages.look(crops, faces, {})
    assert np.abs(unknown.embedding - mixed.embedding)[1].max() > 1e-3
    assert np.abs(unknown.embedding - mixed.embedding)[0].max() < 1e-4


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_told(tiny_checkpoint: Path, device: str) -> None:
    with pytest.raises(InputError, match=device):
        TorchStages(tiny_checkpoint, device)


def test_crops_of_any_memory_layout_are_read_the_same(stages: TorchStages, crops: NDArray[np.uint8]) -> None:
    strided = np.asfortranarray(crops)
    assert_array_equal(look(stages, strided).points, look(stages, crops).points)


def test_load_gives_stages_with_their_config(tiny_checkpoint: Path) -> None:
    stages: Stages = load(tiny_checkpoint)
    assert stages.config.name == "tiny"
    assert stages.config.untaught == ("AU23",)


def test_load_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load(tmp_path / "nowhere")
