"""The ground truth of synthetic data as a data set: all AUs of the faces, exact labels and intensities."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscan.core.errors import InputError
from auscan.datasets.index import Index, read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.dynamics import LABEL_LEVEL, RIG_AUS
from auscan.datasets.synth.plan import RecordingCase, plan_videos
from auscan.datasets.synth.writer import write_videos


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two people with all AUs, one of whom is often not found."""
    out = tmp_path_factory.mktemp("synth") / "data"
    (plan,) = plan_videos(1, 4.0, 0, 10.0)
    case = RecordingCase(tracks=("", "_left"), surplus=0, missing="few")
    conditions = replace(plan.conditions, all_aus=True)
    tracks = ("v", "v_left")
    size = {"width": 160, "height": 96}
    plan = replace(plan, name="v", case=case, split="val", tracks=tracks, conditions=conditions, **size)
    write_videos(out, [plan], 0, {})
    return out


@pytest.fixture(scope="module")
def index(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("index")
    prepare(data, folder, "synth")
    return read_index(folder)


def test_an_index_of_the_truth_has_every_au_of_the_faces(index: Index) -> None:
    assert index.au_names == tuple(sorted(RIG_AUS))
    assert index.tracks["split"].tolist() == ["val", "val"]
    assert set(index.tracks["video"]) == {"batch1/v.mp4"}


def test_intensities_are_five_times_the_movement_and_labels_follow_from_it(index: Index, data: Path) -> None:
    truth = pd.read_parquet(data / "truth" / "frames.parquet")
    for au in index.au_names:
        assert np.allclose(index.frames[f"{au}_r"], 5 * truth[au].clip(0, 1), atol=1e-5)
        assert ((index.frames[au] == 1) == (truth[au] >= LABEL_LEVEL)).all()
    assert (index.frames[list(index.au_names)] == 1).any(axis=None)


def test_covers_of_every_au_are_read_beside_the_truth(index: Index) -> None:
    assert index.frames[[f"{au}_covered" for au in RIG_AUS]].isin([-1, 0, 1]).all(axis=None)
    assert (index.frames["AU45_covered"] == index.frames["AU05_covered"]).all()


def test_pictures_are_those_of_frames_in_which_the_face_was_found(index: Index, data: Path) -> None:
    assert all((data / image).is_file() for image in index.frames["image"].dropna())
    truth = pd.read_parquet(data / "truth" / "frames.parquet")
    assert index.frames["has_image"].tolist() == truth["has_image"].tolist()


def test_the_annotation_files_beside_the_truth_keep_the_twelve_aus(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path / "index")
    assert len(read_index(tmp_path / "index").au_names) == 12


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the ground truth of a synthetic data set"):
        prepare(tmp_path, tmp_path / "index", "synth")
