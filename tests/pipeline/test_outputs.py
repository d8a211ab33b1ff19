"""Apex pictures show the face of their event, cut again from the source, with its attributions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.faces.align import crop_face
from auscan.inference.torch_engine import TorchEngine
from auscan.media.video import read_frames
from auscan.pipeline.detect import detect
from auscan.pipeline.outputs import crop_apexes, overlay_name
from auscan.results.attributions import ATTRIBUTIONS_FILE
from auscan.results.events import EVENT_COLUMNS
from auscan.results.read import read_result
from auscan.results.result import Result


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory, portrait: NDArray[np.uint8], write_clip: Callable[..., Path]
) -> Path:
    """Ten frames of two faces, the right one darker; they move, so that all frames differ."""
    face = portrait[:256, 98:354]
    images = [np.roll(np.concatenate([face, face // 2 + 60], axis=1), 2 * i, axis=1) for i in range(10)]
    return write_clip(tmp_path_factory.mktemp("clips") / "two.mp4", images, np.arange(10) / 25)


@pytest.fixture(scope="module")
def result(clip: Path, tiny_checkpoint: Path) -> Result:
    result = detect(clip, model=TorchEngine(tiny_checkpoint), attributions=True)
    result.save(clip.parent)
    return result


@pytest.fixture
def events(result: Result) -> pd.DataFrame:
    """Three events that are not in the order of their apexes; two have the same apex frame."""
    rows = [(0, "AU12", 7), (1, "AU12", 2), (0, "AU25", 2)]
    events = pd.DataFrame(rows, columns=["face_id", "AU", "apex_frame"])
    events["apex"], events["peak"] = events["apex_frame"] / 25, 0.5 + events["apex_frame"] / 100
    return events.reindex(columns=list(EVENT_COLUMNS))


def test_each_event_has_the_face_of_its_own_apex_with_its_attributions(
    clip: Path, result: Result, events: pd.DataFrame
) -> None:
    images = [frame.image for frame in read_frames(clip)]
    without = replace(result, attributions=None)
    for apexes in (
        crop_apexes(result, events, clip, None),
        crop_apexes(without, events, clip, clip.parent / ATTRIBUTIONS_FILE),
    ):
        assert [(a.face_id, a.au, a.time_s, a.peak) for a in apexes] == [
            (0, "AU12", pytest.approx(0.28), pytest.approx(0.57)),
            (1, "AU12", pytest.approx(0.08), pytest.approx(0.52)),
            (0, "AU25", pytest.approx(0.08), pytest.approx(0.52)),
        ]
        for apex, frame in zip(apexes, (7, 2, 2), strict=True):
            assert apex.attributions is not None
            assert apex.attributions.frames.tolist() == [frame]
            assert apex.attributions.face_ids.tolist() == [apex.face_id]
            assert_array_equal(apex.crop, crop_face(images[frame], apex.attributions.points[0], 32))


def test_without_attributions_the_face_is_cut_by_the_points_of_its_track(
    clip: Path, result: Result, events: pd.DataFrame
) -> None:
    image = next(read_frames(clip, only={7})).image
    apex = crop_apexes(replace(result, attributions=None), events, clip, None)[0]
    assert apex.attributions is None
    assert_array_equal(apex.crop, crop_face(image, result.tracks[0].points[7]))


def test_a_result_read_from_disk_needs_the_attributions_file_for_pictures(
    clip: Path, result: Result, events: pd.DataFrame
) -> None:
    stored = read_result(clip.parent)
    assert crop_apexes(stored, events, clip, None) == []
    assert len(crop_apexes(stored, events, clip, clip.parent / ATTRIBUTIONS_FILE)) == 3


def test_without_events_the_source_is_not_opened(
    tmp_path: Path, result: Result, events: pd.DataFrame
) -> None:
    assert crop_apexes(result, events[:0], tmp_path / "gone.mp4", None) == []


def test_the_overlay_of_a_picture_is_a_picture(tmp_path: Path) -> None:
    assert overlay_name(tmp_path / "face.JPG") == "overlay.png"
    assert overlay_name(tmp_path / "talk.mov") == "overlay.mp4"
    assert overlay_name(tmp_path) == "overlay.mp4"
