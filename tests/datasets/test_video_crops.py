"""Crops of a track are cut from the frames of its video, and are those of `auscan detect`."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from auscan.batch.extract import Extraction
from auscan.cli.main import app
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.datasets.cache import open_track
from auscan.datasets.clock import ASSUMED, FrameClock
from auscan.datasets.frozen_encoders import load_encoders
from auscan.datasets.index import Index, Track, open_index_writer, read_index
from auscan.datasets.video_crops import MIN_SIMILARITY, find_shown, similarity
from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import TrackedFace, track_faces
from auscan.media.video import read_frames

FRAMES = 10


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, portrait: NDArray[np.uint8]) -> Path:
    """A moving face and, right of it, its mirror image: two people."""
    path = tmp_path_factory.mktemp("video") / "talk.mp4"
    pair = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 1024, 512, "yuv420p"
        for number in range(FRAMES):
            image = np.ascontiguousarray(np.roll(pair, 3 * number, axis=0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def faces(video: Path) -> list[tuple[NDArray[np.uint8], list[TrackedFace]]]:
    """Frames, and their two faces from left to right."""
    tracked = track_faces(read_frames(video), FaceDetector())
    return [(frame.image, sorted(found, key=lambda face: float(face.box[0]))) for frame, found in tracked]


def picture(image: NDArray[np.uint8], face: TrackedFace, seed: int) -> NDArray[np.uint8]:
    """Cut a data set's picture, 112 px, by points that differ from those of auscan by about 8 %."""
    eyes = np.linalg.norm(face.points[1] - face.points[0])
    moved = face.points + np.random.default_rng(seed).normal(0, 0.08 * eyes, (5, 2))
    return crop_face(image, moved.astype(np.float32))


@pytest.fixture
def index(tmp_path: Path, video: Path, faces: list[tuple[NDArray[np.uint8], list[TrackedFace]]]) -> Index:
    """Tracks of both people and one without a video. In talk_left row 3 has no picture, row 4 one of another
    frame, and row 10 is beyond the video.
    """
    with open_index_writer(tmp_path / "index", {"root": str(tmp_path)}) as writer:
        for side, name in enumerate(("talk_left", "talk_right", "still")):
            (tmp_path / name).mkdir()
            images: list[str | None] = []
            for row in range(FRAMES + 1):
                image, found = faces[min(row, FRAMES - 1)]
                pixels = picture(image, found[side % 2], row)
                if (name, row) == ("talk_left", 4):
                    pixels = np.ascontiguousarray(pixels[::-1])
                images.append(None if (name, row) == ("talk_left", 3) else f"{name}/{row + 1:05d}.jpg")
                cv2.imwrite(str(tmp_path / name / f"{row + 1:05d}.jpg"), pixels[..., ::-1])
            writer.add(
                Track(
                    name=name,
                    split="train",
                    source_video=name,
                    numbers=np.arange(1, FRAMES + 2),
                    labels=np.zeros((FRAMES + 1, len(AFFWILD2_AUS)), np.int8),
                    images=images,
                    times_s=np.arange(FRAMES + 1) / 10,
                    clock=FrameClock(times_s=np.empty(0), rate_hz=10.0, source=ASSUMED),
                    video=None if name == "still" else str(video),
                )
            )
    return read_index(tmp_path / "index")


def test_each_person_has_the_crops_that_detect_cuts(
    index: Index,
    tiny_checkpoint: Path,
    tmp_path: Path,
    faces: list[tuple[NDArray[np.uint8], list[TrackedFace]]],
) -> None:
    """Of all rows whose picture is shown in the frame; the others keep the picture and are counted."""
    encoders = load_encoders(str(tiny_checkpoint))
    records = Extraction(index, encoders, tmp_path / "cache", crops="video").run_here(batch=3)
    for side, name in enumerate(("talk_left", "talk_right")):
        crops = [crop_face(image, found[side].points, encoders.crop_size) for image, found in faces]
        expected, _ = encoders.encode_faces(np.stack(crops), encoders.grid)
        track = open_track(tmp_path / "cache", name)
        kept = [row for row in range(FRAMES) if (name, row) not in (("talk_left", 3), ("talk_left", 4))]
        np.testing.assert_allclose(track.face[kept], expected[kept], atol=2e-3)
        assert (track.header.crops, track.header.picture_side) == ("video", 112)
        assert track.has_image.sum() == FRAMES + (name == "talk_right")
    warnings = [warning for record in records for warning in record.warnings]
    reason = (
        "crops are the data set's pictures, because no face in the frame of the video surely matches them"
    )
    assert warnings == [f"talk_left: 2 of 10 {reason}", f"talk_right: 1 of 11 {reason}"]
    still = open_track(tmp_path / "cache", "still").header
    assert (still.crops, still.enlarged_from) == ("pictures", None)


def test_crops_come_from_the_video_by_default_only_if_pictures_would_be_enlarged(
    index: Index, tiny_checkpoint: Path, backbones: Path, tmp_path: Path
) -> None:
    hub = load_encoders("base", str(backbones / "dinov2"), str(backbones / "wavlm"))
    assert Extraction(index, hub, tmp_path / "cache").crops == "video"
    assert Extraction(index, hub, tmp_path / "cache", crops="pictures").crops == "pictures"
    assert Extraction(index, load_encoders(str(tiny_checkpoint)), tmp_path / "cache").crops == "pictures"


def test_the_source_of_the_crops_is_printed_and_another_one_is_extracted_again(
    index: Index, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folders = [str(tmp_path / "index"), "--out", str(tmp_path / "cache"), "--model", str(tiny_checkpoint)]
    first = CliRunner().invoke(app, ["extract", *folders], catch_exceptions=False)
    assert "Crops: 32 px, of 0 tracks from the video and of 3 tracks from the pictures." in first.stdout
    again = CliRunner().invoke(app, ["extract", *folders, "--crops", "video"], catch_exceptions=False)
    assert "Remaining: 2 tracks" in again.stdout
    assert "Crops: 32 px, of 2 tracks from the video and of 1 tracks from the pictures." in again.stdout
    assert "talk_left: 2 of 10 crops are the data set's pictures" in again.stderr
    with pytest.raises(InputError, match="--crops frames is not valid"):
        CliRunner().invoke(app, ["extract", *folders, "--crops", "frames"], catch_exceptions=False)


def test_a_picture_is_matched_to_its_own_face_only(
    faces: list[tuple[NDArray[np.uint8], list[TrackedFace]]],
) -> None:
    image, found = faces[0]
    crops = [crop_face(image, face.points, 224) for face in found]
    for side, other in ((0, 1), (1, 0)):
        own = picture(image, found[side], seed=side)
        assert similarity(own, crops[side]) > MIN_SIMILARITY > similarity(own, crops[other])
        assert find_shown(own, crops) is crops[side]
        assert find_shown(own, [crops[other]]) is None
    assert find_shown(own, []) is None
    assert similarity(np.zeros((112, 112, 3), np.uint8), crops[0]) < 0.5
