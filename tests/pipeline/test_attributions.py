"""Attributions hold the attention maps and gates of the network for every row with a face."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.errors import CheckpointError
from auscan.faces.align import crop_face
from auscan.inference.engine import InferenceEngine, VisualFeatures
from auscan.inference.onnx_engine import OnnxEngine
from auscan.inference.torch_engine import TorchEngine
from auscan.media import recording
from auscan.media.audio import read_waveform
from auscan.media.video import read_frames
from auscan.pipeline import detect as pipeline
from auscan.pipeline import track
from auscan.pipeline.detect import detect
from auscan.results.attributions import Attributions, concatenate
from auscan.results.result import Result

FRAMES = 60
AUDIO_S = 1.0
BYTE_STEP = 1 / 255


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> InferenceEngine:
    return TorchEngine(tiny_checkpoint)


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> Path:
    """2.4 s of one face that is absent for six frames, with noise in the first second."""
    images = face_images(FRAMES)
    images[20:26] = [np.full_like(images[0], 90)] * 6
    noise = (0.1 * np.random.default_rng(0).standard_normal(round(16_000 * AUDIO_S))).astype(np.float32)
    return write_clip(tmp_path_factory.mktemp("clips") / "talk.mp4", images, np.arange(FRAMES) / 25, noise)


@pytest.fixture(scope="module")
def result(clip: Path, engine: InferenceEngine) -> Result:
    return detect(clip, model=engine, attributions=True)


def attributions_of(result: Result) -> Attributions:
    assert result.attributions is not None
    return result.attributions


def assert_close(a: Attributions, b: Attributions) -> None:
    """Assert that two attributions have the same faces and values at most one byte step apart."""
    assert_array_equal(a.frames, b.frames)
    assert_array_equal(a.face_ids, b.face_ids)
    for name in ("points", "patches", "attention", "gates", "audio_gate"):
        assert_allclose(getattr(a, name), getattr(b, name), atol=BYTE_STEP + 1e-4, err_msg=name)


def test_every_row_with_a_face_has_its_attributions(result: Result, engine: InferenceEngine) -> None:
    faces = result.table[result.table["success"] == 1]
    assert len(faces) == FRAMES - 6
    assert attributions_of(result).frames.tolist() == faces["frame"].tolist()
    assert attributions_of(result).face_ids.tolist() == faces["face_id"].tolist()
    assert attributions_of(result).side == engine.config.network.visual.crop_size


def test_attributions_equal_the_engines_output_for_crops_cut_by_the_stored_points(
    clip: Path, result: Result, engine: InferenceEngine
) -> None:
    """The crop for a heat map can therefore be cut from the source again."""
    attributions = attributions_of(result)
    images = {frame.index: frame.image for frame in read_frames(clip)}
    crops = np.stack(
        [
            crop_face(images[frame], points, attributions.side)
            for frame, points in zip(attributions.frames, attributions.points, strict=True)
        ]
    )
    expected = engine.encode_faces(crops, [0] * len(crops), {}, attributions=True).attributions
    assert expected is not None
    assert_allclose(attributions.patches, expected.patch_weights, atol=BYTE_STEP)
    assert_allclose(attributions.attention, expected.attention, atol=0.5 * BYTE_STEP + 1e-5)
    assert_allclose(attributions.gates, expected.gates, atol=0.5 * BYTE_STEP + 1e-5)
    assert ((attributions.patches == 0) == (expected.patch_weights == 0)).all()
    assert ((attributions.attention > 0).sum(axis=2) <= 6).all(), "each AU attends to its six patches"
    assert attributions.attention[np.repeat(attributions.patches[:, None] == 0, 12, axis=1)].max() == 0
    assert np.ptp(attributions.attention, axis=0).max() > 0.05


def test_the_audio_gate_is_open_only_if_audio_is_within_reach(result: Result, clip: Path) -> None:
    """The audio ends after a second; the reach of a frame is half a second on either side."""
    gate = attributions_of(result).audio_gate
    times_s = attributions_of(result).frames / 25
    assert (gate[times_s < AUDIO_S + 0.4] > 0).all()
    late = times_s > AUDIO_S + 0.6
    assert late.sum() > 10
    assert (gate[late] == 0).all()


def test_without_audio_the_audio_gate_is_closed_and_all_else_is_the_same(
    clip: Path, result: Result, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "read_waveform", lambda path: None)
    silent = attributions_of(detect(clip, model=engine, attributions=True))
    assert (silent.audio_gate == 0).all()
    assert_allclose(silent.attention, attributions_of(result).attention, atol=BYTE_STEP)
    assert_allclose(silent.gates, attributions_of(result).gates, atol=BYTE_STEP)


@pytest.mark.parametrize("chunk", [1, 7])
def test_attributions_do_not_depend_on_batch_and_chunk_sizes(
    clip: Path, result: Result, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_CROPS", chunk)
    monkeypatch.setattr(track, "ROW_GROUP_SIZE", 4 + chunk)
    monkeypatch.setattr(recording, "read_waveform", lambda path: read_waveform(path, 0.13 * chunk))
    assert_close(attributions_of(detect(clip, model=engine, attributions=True)), attributions_of(result))


def test_onnx_returns_the_same_attributions(clip: Path, result: Result, tiny_graphs: Path) -> None:
    assert_close(
        attributions_of(detect(clip, model=OnnxEngine(tiny_graphs), attributions=True)),
        attributions_of(result),
    )


def test_a_callback_receives_all_attributions_and_the_result_has_none(
    clip: Path, result: Result, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "ROW_GROUP_SIZE", 20)
    parts: list[Attributions] = []
    without = detect(clip, model=engine, attributions=parts.append)
    assert without.attributions is None
    assert [len(part) for part in parts] == [20, 20, FRAMES - 6 - 40]
    assert_close(concatenate(parts, parts[0].side, parts[0].au_names), attributions_of(result))


def test_unless_requested_no_attributions_are_computed_and_the_table_is_the_same(
    clip: Path, result: Result, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_faces, outputs = engine.encode_faces, []

    def recorded(*args: Any, **options: Any) -> VisualFeatures:
        outputs.append(encode_faces(*args, **options))
        return outputs[-1]

    def fail(*args: Any) -> None:
        raise AssertionError("The audio gate was computed.")

    monkeypatch.setattr(engine, "encode_faces", recorded)
    monkeypatch.setattr(engine, "audio_gate", fail)
    plain = detect(clip, model=engine)
    assert plain.attributions is None
    assert all(features.attributions is None for features in outputs)
    assert plain.table.equals(result.table)


def test_each_of_two_faces_has_its_own_attributions(
    tmp_path: Path, engine: InferenceEngine, portrait: NDArray[np.uint8], write_clip: Callable[..., Path]
) -> None:
    face = portrait[:256, 98:354]
    both = np.concatenate([face, face // 2 + 60], axis=1)
    clip = write_clip(tmp_path / "two.mp4", [both] * 6, np.arange(6) / 25)
    attributions = attributions_of(detect(clip, model=engine, attributions=True))
    assert attributions.frames.tolist() == np.repeat(np.arange(6), 2).tolist()
    assert attributions.face_ids.tolist() == [0, 1] * 6
    left, right = (attributions.rows(attributions.face_ids == face_id) for face_id in (0, 1))
    assert abs(left.points[:, :, 0].mean() - right.points[:, :, 0].mean()) > 200
    assert not np.allclose(left.attention, right.attention, atol=0.02)


def test_a_clip_without_a_face_has_no_attributions(
    tmp_path: Path, engine: InferenceEngine, write_clip: Callable[..., Path]
) -> None:
    wall = np.full((128, 128, 3), 120, np.uint8)
    clip = write_clip(tmp_path / "wall.mp4", [wall] * 6, np.arange(6) / 25)
    assert len(attributions_of(detect(clip, model=engine, attributions=True))) == 0


def test_graphs_without_attributions_are_refused_before_the_video_is_read(
    clip: Path, tiny_graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError("The video was read.")

    monkeypatch.setattr(OnnxEngine, "has_attributions", False)
    monkeypatch.setattr(recording, "read_frames", fail)
    with pytest.raises(CheckpointError, match=r"tiny have no evidence.*auscan export"):
        detect(clip, model=OnnxEngine(tiny_graphs), attributions=True)
