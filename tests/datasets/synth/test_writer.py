"""Test a whole synthetic data set: files, ground truth, and reading it as Aff-Wild2."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from auscan.cli.main import app
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import AuscanError, InputError
from auscan.datasets.index import cover_columns, read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.plan import Conditions, VideoPlan, plan_videos
from auscan.datasets.synth.video import COVERED, HEADER, VISIBLE, make_video
from auscan.datasets.synth.writer import write_dataset, write_test_files
from auscan.datasets.track_lists import detect_kind, read_counts, read_list, read_template

SMALL = {"width": 160, "height": 128, "seconds": 2.0, "rate_hz": 12.0}  # quick to make


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set of twelve small videos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "auscan.datasets.synth.writer.plan_videos",
            lambda *numbers: [replace(plan, **SMALL) for plan in plan_videos(*numbers)],
        )
        out = tmp_path_factory.mktemp("synth") / "set"
        write_dataset(out, videos=12, seed=0)
    return out


@pytest.fixture(scope="module")
def frames(dataset: Path) -> pd.DataFrame:
    return pd.read_parquet(dataset / "truth" / "frames.parquet")


@pytest.fixture(scope="module")
def index(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return prepare(dataset, tmp_path_factory.mktemp("index"))


def small_plan(seed: int) -> VideoPlan:
    return replace(plan_videos(1, 2.0, seed)[0], **SMALL, split="train")


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def test_equal_seeds_result_in_equal_truth_and_pictures_and_other_seeds_differ(tmp_path: Path) -> None:
    face = builtin_face()
    one, same, other = (
        make_video(small_plan(seed), face, tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    pd.testing.assert_frame_equal(one.frames, same.frames)
    pd.testing.assert_frame_equal(one.tracks, same.tracks)
    assert pictures(tmp_path / "a") == pictures(tmp_path / "b")
    assert not one.frames[list(AFFWILD2_AUS)].equals(other.frames[list(AFFWILD2_AUS)])
    assert set(pictures(tmp_path / "a").values()).isdisjoint(pictures(tmp_path / "c").values())


def test_the_reader_finds_all_splits_and_reports_no_unusable_files(index: dict) -> None:
    assert {name: split["tracks"] for name, split in index["splits"].items()}.keys() == {
        "train",
        "val",
        "test",
    }
    assert sum(split["tracks"] for split in index["splits"].values()) == 14
    assert all("truth" in item["path"] for item in index["unused"])


def test_truth_has_a_row_for_every_frame_of_every_track(frames: pd.DataFrame) -> None:
    for _, track in frames.groupby("track"):
        assert np.array_equal(track["number"], np.arange(1, len(track) + 1))
        assert track["time_s"].is_monotonic_increasing
    assert frames["track"].nunique() == 14
    movement = frames[list(AFFWILD2_AUS)].to_numpy()
    assert movement.min() >= 0
    assert movement.max() <= 1.01


def test_annotations_agree_with_the_ground_truth_wherever_they_are_given(
    dataset: Path, frames: pd.DataFrame
) -> None:
    files = sorted((dataset / "Third ABAW Annotations").rglob("*.txt"))
    assert len(files) >= 8
    off = set()
    for path in files:
        rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=int)
        true = frames[frames["track"] == path.stem][[f"{name}_label" for name in AFFWILD2_AUS]].to_numpy()
        shared = min(len(rows), len(true))
        known = rows[:shared] != -1
        assert np.array_equal(rows[:shared][known], true[:shared][known])
        assert not known.all()
        off.add(len(rows) - len(true))
    assert len(off) > 1


def test_covers_of_the_index_are_those_of_the_rendered_frames(
    dataset: Path, frames: pd.DataFrame, tmp_path: Path
) -> None:
    prepare(dataset, tmp_path)
    read = read_index(tmp_path).frames[["track", "frame", *cover_columns(AFFWILD2_AUS)]]
    joined = read.merge(frames.rename(columns={"number": "frame"}), on=["track", "frame"])
    mouth, brow = joined["AU25_covered"], joined["AU04_covered"]
    assert {-1, 0, 1} == set(mouth)
    assert (mouth[~joined["has_image"]] == -1).all()
    assert (joined["mouth_share"][mouth == 1] >= COVERED).all()
    assert (joined["mouth_share"][mouth == 0] <= VISIBLE).all()
    assert (joined["eyes_share"][brow == 0] <= VISIBLE).all()
    assert (joined["AU12_covered"] == mouth).all()
    covered = joined["mouth_covered"] & joined["has_image"]
    assert (mouth[covered] == 1).mean() > 0.7
    assert (mouth[~joined["mouth_covered"] & joined["has_image"]] == 0).mean() > 0.7


def test_hard_conditions_cover_speech_replace_voices_and_blank_faces(tmp_path: Path) -> None:
    hard = Conditions(covered_speech=1.0, other_voice=1.0, blank_every_s=1.0, occluders=("card",))
    plan = replace(small_plan(3), seconds=20.0, rate_hz=5.0, conditions=hard)
    video = make_video(plan, builtin_face(), tmp_path)
    frames = video.frames
    assert set(video.tracks["holds"]) == {"card"}
    assert frames["mouth_covered"][frames["speaking"]].mean() > 0.8
    assert not frames["own_voice"][frames["speaking"]].any()
    blank = (frames["blank"] & frames["has_image"]).to_numpy()
    assert 0.1 < blank.mean() < 0.9
    assert (video.covers.loc[blank, cover_columns(AFFWILD2_AUS)] == 1).all().all()
    at = np.flatnonzero(blank)[1]
    crop = cv2.imread(
        str(tmp_path / "cropped_aligned" / frames["track"][at] / f"{frames['number'][at]:05d}.jpg")
    )
    assert crop[20:92, 20:92].std() < 20


def test_test_tracks_have_no_labels(dataset: Path) -> None:
    listed = next(dataset.rglob("*test_set_release.txt")).read_text().split()
    assert listed
    assert not {path.stem for path in dataset.rglob("*_Set/*.txt")} & set(listed)


def test_pictures_are_aligned_faces_and_exist_for_the_frames_in_the_ground_truth(
    dataset: Path, frames: pd.DataFrame
) -> None:
    for name, track in frames.groupby("track"):
        found = {
            int(p.stem) for p in (dataset / "cropped_aligned" / str(name)).glob("*.jpg") if p.stat().st_size
        }
        assert found == set(track.loc[track["has_image"], "number"])
        first = cv2.imread(str(dataset / "cropped_aligned" / str(name) / f"{min(found):05d}.jpg"))
        assert first.shape == (112, 112, 3)


def test_the_data_set_has_all_irregularities_of_aff_wild2(dataset: Path) -> None:
    tracks = pd.read_parquet(dataset / "truth" / "tracks.parquet")
    assert {"even", "variable", "late"} == set(tracks["timing"])
    assert {"yes", "none", "late"} == set(tracks["sound"])
    assert {path.suffix for path in dataset.glob("batch?/*")} == {".mp4", ".avi"}
    assert any(path.stat().st_size == 0 for path in dataset.rglob("*.jpg"))
    endings = {name.rsplit("_", 1)[-1] for name in tracks["track"]}
    assert {"left", "right"} <= endings


def test_parts_of_a_recording_share_a_resting_face_and_other_recordings_differ(dataset: Path) -> None:
    tracks = pd.read_parquet(dataset / "truth" / "tracks.parquet").set_index("track")
    rest = tracks[[f"{name}_rest" for name in AFFWILD2_AUS]]
    parts = sorted(name for name in rest.index if name.startswith("video") and name.endswith(("_1", "_2")))
    assert len(parts) == 2
    assert rest.loc[parts[0]].equals(rest.loc[parts[1]])
    assert len(rest.drop_duplicates()) == 12


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        write_dataset(tmp_path, videos=1, seed=0)


def test_a_face_file_that_is_missing_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz"):
        write_dataset(tmp_path / "out", videos=1, seed=0, face_file=tmp_path / "none.npz")
    assert not (tmp_path / "out").exists()


def test_without_numba_the_error_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "auscan.datasets.synth.writer", None)
    done = CliRunner().invoke(app, ["synth", str(tmp_path / "set")])
    assert isinstance(done.exception, AuscanError)
    assert "auscan[train]" in str(done.exception)


def test_the_command_prints_counts_of_videos_tracks_and_frames(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["synth", str(tmp_path / "set"), "--videos", "1", "--seconds", "2"])
    assert done.exit_code == 0, done.output
    assert "1 videos, " in done.output
    assert (tmp_path / "set" / "truth" / "frames.parquet").is_file()


def test_the_files_of_the_test_set_are_recognised_by_the_reader(tmp_path: Path) -> None:
    counts = {"900_left": 3, "video900": 2}
    write_test_files(tmp_path, counts, np.random.default_rng(0))
    by_kind: dict[str, list[Path]] = {}
    for path in sorted(tmp_path.rglob("*.txt")):
        by_kind.setdefault(detect_kind(path), []).append(path)
    assert {kind: len(paths) for kind, paths in by_kind.items()} == {"list": 1, "counts": 1, "template": 2}
    assert read_list(by_kind["list"][0]) == list(counts)
    assert read_counts(by_kind["counts"][0]) == counts
    for path in by_kind["template"]:
        assert read_template(path).numbers == {"900_left": [1, 2, 3], "video900": [1, 2]}
        assert path.read_text().startswith(f"image_location,{HEADER}\n900_left/00001.jpg,")
