"""What is kept of how a face was read is what the network went by, of every row and no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from auscan.core.errors import CheckpointError
from auscan.faces.align import crop_face
from auscan.inference.engine import FaceFeatures, Stages
from auscan.inference.onnx_engine import OnnxStages
from auscan.inference.torch_engine import TorchStages
from auscan.media.audio import read_waveform
from auscan.media.video import read_frames
from auscan.pipeline import detect as pipeline
from auscan.pipeline import track as trail
from auscan.pipeline.detect import detect
from auscan.results.evidence import Evidence, join
from auscan.results.result import Result

FRAMES = 60
SOUND_S = 1.0
STEP = 1 / 255


@pytest.fixture(scope="module")
def stages(tiny_checkpoint: Path) -> Stages:
    return TorchStages(tiny_checkpoint)


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> Path:
    """2.4 s of one face that is away for a moment, with noise in the first second."""
    images = face_images(FRAMES)
    images[20:26] = [np.full_like(images[0], 90)] * 6
    noise = (0.1 * np.random.default_rng(0).standard_normal(round(16_000 * SOUND_S))).astype(np.float32)
    return write_clip(tmp_path_factory.mktemp("clips") / "talk.mp4", images, np.arange(FRAMES) / 25, noise)


@pytest.fixture(scope="module")
def result(clip: Path, stages: Stages) -> Result:
    return detect(clip, model=stages, evidence=True)


def went_by(result: Result) -> Evidence:
    assert result.evidence is not None
    return result.evidence


def assert_close(a: Evidence, b: Evidence) -> None:
    """The same faces, numbers at most a step of a byte apart."""
    assert_array_equal(a.frames, b.frames)
    assert_array_equal(a.face_ids, b.face_ids)
    for name in ("points", "patches", "attention", "gates", "audio_gate"):
        assert_allclose(getattr(a, name), getattr(b, name), atol=STEP + 1e-4, err_msg=name)


def test_every_row_with_a_face_has_its_evidence(result: Result, stages: Stages) -> None:
    faces = result.table[result.table["success"] == 1]
    assert len(faces) == FRAMES - 6
    assert went_by(result).frames.tolist() == faces["frame"].tolist()
    assert went_by(result).face_ids.tolist() == faces["face_id"].tolist()
    assert went_by(result).side == stages.config.network.visual.crop_size


def test_it_is_what_the_network_says_of_the_crops_cut_by_its_points(
    clip: Path, result: Result, stages: Stages
) -> None:
    """So the crop to draw it on can be cut from the source again."""
    kept = went_by(result)
    images = {frame.index: frame.image for frame in read_frames(clip)}
    crops = np.stack(
        [
            crop_face(images[frame], points, kept.side)
            for frame, points in zip(kept.frames, kept.points, strict=True)
        ]
    )
    said = stages.look(crops, [0] * len(crops), {}, evidence=True).evidence
    assert said is not None
    assert_allclose(kept.patches, said.patch_weights, atol=STEP)
    assert_allclose(kept.attention, said.attention, atol=0.5 * STEP + 1e-5)
    assert_allclose(kept.gates, said.gates, atol=0.5 * STEP + 1e-5)
    assert ((kept.patches == 0) == (said.patch_weights == 0)).all()
    assert ((kept.patches > 0).sum(axis=1) == 6).all()
    assert kept.attention[np.repeat(kept.patches[:, None] == 0, 12, axis=1)].max() == 0
    assert np.ptp(kept.attention, axis=0).max() > 0.05


def test_the_voice_has_a_share_only_where_it_is_within_reach(result: Result, clip: Path) -> None:
    """The sound is over after a second; a frame hears half a second of it on either side."""
    gate = went_by(result).audio_gate
    times_s = went_by(result).frames / 25
    assert (gate[times_s < SOUND_S + 0.4] > 0).all()
    late = times_s > SOUND_S + 0.6
    assert late.sum() > 10
    assert (gate[late] == 0).all()


def test_without_sound_its_gate_is_closed_and_all_else_is_the_same(
    clip: Path, result: Result, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "read_waveform", lambda path: None)
    silent = went_by(detect(clip, model=stages, evidence=True))
    assert (silent.audio_gate == 0).all()
    assert_allclose(silent.attention, went_by(result).attention, atol=STEP)
    assert_allclose(silent.gates, went_by(result).gates, atol=STEP)


@pytest.mark.parametrize("chunk", [1, 7])
def test_it_does_not_depend_on_how_the_work_was_cut(
    clip: Path, result: Result, stages: Stages, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(pipeline, "CHUNK", chunk)
    monkeypatch.setattr(trail, "ROWS", 4 + chunk)
    monkeypatch.setattr(pipeline, "read_waveform", lambda path: read_waveform(path, 0.13 * chunk))
    assert_close(went_by(detect(clip, model=stages, evidence=True)), went_by(result))


def test_onnx_went_by_the_same(clip: Path, result: Result, tiny_graphs: Path) -> None:
    assert_close(went_by(detect(clip, model=OnnxStages(tiny_graphs), evidence=True)), went_by(result))


def test_a_function_is_given_all_of_it_and_nothing_is_kept(
    clip: Path, result: Result, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "ROWS", 20)
    pieces: list[Evidence] = []
    given = detect(clip, model=stages, evidence=pieces.append)
    assert given.evidence is None
    assert [len(piece) for piece in pieces] == [20, 20, FRAMES - 6 - 40]
    assert_close(join(pieces, pieces[0].side), went_by(result))


def test_unless_asked_for_nothing_is_read_out_and_the_table_is_the_same(
    clip: Path, result: Result, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, seen = stages.look, []

    def watched(*args: Any, **options: Any) -> FaceFeatures:
        seen.append(look(*args, **options))
        return seen[-1]

    def never(*args: Any) -> None:
        raise AssertionError("The voice was asked for a second time.")

    monkeypatch.setattr(stages, "look", watched)
    monkeypatch.setattr(stages, "audio_gate", never)
    plain = detect(clip, model=stages)
    assert plain.evidence is None
    assert all(features.evidence is None for features in seen)
    assert plain.table.equals(result.table)


def test_each_of_two_faces_keeps_its_own(
    tmp_path: Path, stages: Stages, portrait: NDArray[np.uint8], write_clip: Callable[..., Path]
) -> None:
    face = portrait[:256, 98:354]
    both = np.concatenate([face, face // 2 + 60], axis=1)
    clip = write_clip(tmp_path / "two.mp4", [both] * 6, np.arange(6) / 25)
    kept = went_by(detect(clip, model=stages, evidence=True))
    assert kept.frames.tolist() == np.repeat(np.arange(6), 2).tolist()
    assert kept.face_ids.tolist() == [0, 1] * 6
    left, right = (kept.rows(kept.face_ids == face_id) for face_id in (0, 1))
    assert abs(left.points[:, :, 0].mean() - right.points[:, :, 0].mean()) > 200
    assert not np.allclose(left.attention, right.attention, atol=0.02)


def test_a_clip_without_a_face_has_no_evidence(
    tmp_path: Path, stages: Stages, write_clip: Callable[..., Path]
) -> None:
    wall = np.full((128, 128, 3), 120, np.uint8)
    clip = write_clip(tmp_path / "wall.mp4", [wall] * 6, np.arange(6) / 25)
    assert len(went_by(detect(clip, model=stages, evidence=True))) == 0


def test_graphs_that_cannot_say_are_told_before_the_video_is_read(
    clip: Path, tiny_graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("The video was read.")

    monkeypatch.setattr(OnnxStages, "has_evidence", False)
    monkeypatch.setattr(pipeline, "read_frames", never)
    with pytest.raises(CheckpointError, match=r"tiny give no evidence.*auscan export"):
        detect(clip, model=OnnxStages(tiny_graphs), evidence=True)
