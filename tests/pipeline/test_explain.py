"""`explain` draws a face with its own attributions, or raises an error that lists the available faces."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.faces.align import crop_face
from auscan.inference.torch_engine import TorchEngine
from auscan.media.video import read_frames
from auscan.pipeline.detect import detect
from auscan.pipeline.explain import explain, write_picture
from auscan.results.attributions import ATTRIBUTIONS_FILE, Attributions
from auscan.results.figures.heat import draw_au, draw_sheet


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory, portrait: NDArray[np.uint8], write_clip: Callable[..., Path]
) -> Path:
    """Frames 0 to 4 show one face, frames 5 to 9 two."""
    face, wall = portrait[:256, 98:354], np.full((256, 256, 3), 90, np.uint8)
    one, two = (np.concatenate([face, right], axis=1) for right in (wall, face // 2 + 60))
    return write_clip(tmp_path_factory.mktemp("clips") / "two.mp4", [one] * 5 + [two] * 5, np.arange(10) / 25)


@pytest.fixture(scope="module")
def attributions(clip: Path, tiny_checkpoint: Path) -> Attributions:
    result = detect(clip, model=TorchEngine(tiny_checkpoint), attributions=True)
    result.save(clip.parent)
    assert result.attributions is not None
    return result.attributions


@pytest.mark.parametrize("face_id", [0, 1])
def test_the_picture_shows_the_face_of_the_frame_with_its_attributions(
    clip: Path, attributions: Attributions, face_id: int
) -> None:
    row = attributions.rows((attributions.frames == 7) & (attributions.face_ids == face_id))
    image = next(frame.image for frame in read_frames(clip) if frame.index == 7)
    crop = crop_face(image, row.points[0], 32)
    file = clip.parent / ATTRIBUTIONS_FILE
    assert_array_equal(explain(clip, file, 7, face_id=face_id), draw_sheet(crop, row))
    assert_array_equal(explain(clip, file, 7, face_id=face_id, au="AU04"), draw_au(crop, row, "AU04"))


def test_a_single_face_needs_no_face_id_and_several_faces_do(clip: Path, attributions: Attributions) -> None:
    file = clip.parent / ATTRIBUTIONS_FILE
    assert_array_equal(explain(clip, file, 2), explain(clip, file, 2, face_id=0))
    with pytest.raises(InputError, match=r"Frame 7 has the faces 0, 1\. Choose one"):
        explain(clip, file, 7)
    with pytest.raises(InputError, match=r"Frame 7 has no face 5\. Its faces: 0, 1"):
        explain(clip, file, 7, face_id=5)


def test_missing_frames_unknown_aus_and_wrong_suffixes_are_input_errors(
    clip: Path, attributions: Attributions, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    file = clip.parent / ATTRIBUTIONS_FILE
    with pytest.raises(InputError, match="Frame 99 has no face in the attributions file"):
        explain(clip, file, 99)
    with pytest.raises(InputError, match=r"has no AU99\. Choose one of AU01.*AU12"):
        explain(clip, file, 2, au="AU99")
    other = write_clip(tmp_path / "other.mp4", [np.zeros((64, 64, 3), np.uint8)], [0.0])
    with pytest.raises(InputError, match=r"other\.mp4 has no frame 2"):
        explain(other, file, 2)
    with pytest.raises(InputError, match=r"why\.mp4 is not a picture file name"):
        write_picture(tmp_path / "why.mp4", np.zeros((4, 4, 3), np.uint8))


def test_the_source_is_read_only_up_to_the_frame(clip: Path, attributions: Attributions) -> None:
    seen: list[tuple[int, int | None]] = []
    file = clip.parent / ATTRIBUTIONS_FILE
    explain(clip, file, 3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_picture_is_written_in_its_colours(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[..., 0] = 200
    write_picture(tmp_path / "new" / "why.png", picture)
    assert_array_equal(cv2.imread(str(tmp_path / "new" / "why.png"))[..., ::-1], picture)
