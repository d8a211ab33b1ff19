"""Scores of an index are those of `auscan detect`, and their figures are those of the known truth."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, roc_auc_score

from auscan.batch.index_scorer import Crops, IndexScorer
from auscan.batch.score import score_jobs
from auscan.cli.main import main
from auscan.core.aus import AFFWILD2_AUS, au_columns
from auscan.core.errors import InputError, MediaError
from auscan.datasets.crops import read_crop
from auscan.datasets.index import read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.plan import plan_videos
from auscan.datasets.synth.writer import write_videos
from auscan.faces.align import crop_face
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.media.video import Frame, read_frames
from auscan.pipeline.detect import detect
from auscan.results.table import TrackScores
from auscan.training.scores import check_scores, read_labels, read_scores, shared_aus

DISFA_AUS = ("AU01", "AU02", "AU04", "AU06", "AU12", "AU15", "AU25", "AU26")
BP4D_AUS = AFFWILD2_AUS[:-2]
SECONDS, RATE_HZ = 3.0, 20.0


@pytest.fixture(scope="module")
def engine() -> InferenceEngine:
    return load_engine("nano")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of one person and one of two, in the layout of Aff-Wild2, with their truth."""
    plans = plan_videos(12, SECONDS, 0, RATE_HZ)
    chosen = [plan for plan in plans if plan.name in ("1002", "1007-20-320x240", "1004")]
    root = tmp_path_factory.mktemp("rendered") / "data"
    write_videos(root, chosen, 0, {})
    return root


def truth_of(rendered: Path) -> Iterator[tuple[str, Path, pd.DataFrame]]:
    """Name, video and truth by frame number of each recording of one person."""
    frames = pd.read_parquet(rendered / "truth" / "frames.parquet")
    for track in ("1002", "1007-20-320x240"):
        (video,) = rendered.glob(f"batch*/{track}.*")
        yield track, video, frames[frames["track"] == track].set_index("number")


@pytest.fixture(scope="module")
def disfa(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A folder like DISFA and its truth: a video a person, intensities 0 to 5 in a file per AU."""
    root, tables = tmp_path_factory.mktemp("disfa"), []
    for person, (_, video, frames) in zip(("SN001", "SN003"), truth_of(rendered), strict=True):
        (root / "Video_LeftVideo").mkdir(exist_ok=True)
        shutil.copy(video, root / "Video_LeftVideo" / f"LeftVideo{person}_comp{video.suffix}")
        folder = root / "ActionUnit_Labels" / person
        folder.mkdir(parents=True)
        for au in DISFA_AUS:
            levels = (5 * frames[au]).round().clip(0, 5).astype(int)
            lines = [f"{number},{level}" for number, level in levels.items()]
            (folder / f"{person}_au{int(au[2:])}.txt").write_text("\n".join(lines) + "\n")
        active = (5 * frames[list(DISFA_AUS)]).round() >= 2
        tables.append(active.astype(int).assign(track=person, video=str(video)))
    return root, pd.concat(tables)


@pytest.fixture(scope="module")
def bp4d(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A folder like BP4D and its truth: pictures of whole frames, codes of part of each video."""
    root, tables = tmp_path_factory.mktemp("bp4d"), []
    for person, (_, video, frames) in zip(("F001", "M004"), truth_of(rendered), strict=True):
        folder = root / person / "T1"
        folder.mkdir(parents=True)
        for frame in read_frames(video):
            cv2.imwrite(str(folder / f"{frame.index + 1:04d}.jpg"), frame.image[..., ::-1])
        coded = frames.loc[8:40, [f"{au}_label" for au in BP4D_AUS]].set_axis(BP4D_AUS, axis=1)
        codes = root / "AUCoding" / "AU_OCC" / f"{person}_T1.csv"
        codes.parent.mkdir(parents=True, exist_ok=True)
        header = ",".join(["0", *(str(int(au[2:])) for au in BP4D_AUS)])
        lines = [
            ",".join(map(str, [number, *row])) for number, row in zip(coded.index, coded.values, strict=True)
        ]
        codes.write_text("\n".join([header, *lines]) + "\n")
        tables.append(coded.assign(track=f"{person}_T1", video=str(folder)))
    return root, pd.concat(tables)


def largest_faces(source: str, engine: InferenceEngine) -> pd.DataFrame:
    """Table of `detect`: in each frame the row of the largest face, by frame number from 1."""
    folder = Path(source)
    table = detect(folder, model=engine, folder_rate_hz=25.0 if folder.is_dir() else None).table
    area = (table["w"] * table["h"]).fillna(0)
    return table.loc[area.groupby(table["frame"]).idxmax()].set_index(table["frame"].unique() + 1)


def run(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["auscan", *arguments.split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)


@pytest.mark.parametrize("name", ["disfa", "bp4d"])
def test_figures_of_rendered_people_equal_those_computed_from_the_known_truth(
    name: str,
    engine: InferenceEngine,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, truth = request.getfixturevalue(name)
    coded = DISFA_AUS if name == "disfa" else BP4D_AUS
    prepare(root, tmp_path / "index", dataset=name)
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "score index --out scores.parquet")
    run(
        monkeypatch, "evaluate index scores.parquet --split all --thresholds scores.thresholds.json --out out"
    )
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    filled = []
    for _, labels in truth.groupby("track", sort=False):
        faces = largest_faces(labels["video"].iloc[0], engine)
        scores = faces[list(coded)].reindex(labels.index).reset_index(drop=True)
        filled.append(scores.interpolate(limit_direction="both"))
    scores = pd.concat(filled)
    assert report["frames"] == len(truth) > 60
    for au in coded:
        labels, values = truth[au].to_numpy(), scores[au].to_numpy()
        active = values >= np.float32(engine.config.thresholds[engine.config.au_names.index(au)])
        figures = report["at_tuned"]["f1_all"]
        assert figures["f1"][au] == pytest.approx(f1_score(labels, active, zero_division=0)), au
        if labels.any() and not labels.all():
            assert figures["kappa"][au] == pytest.approx(cohen_kappa_score(labels, active)), au
            assert report["auc"][au] == pytest.approx(roc_auc_score(labels, values)), au
            assert report["average_precision"][au] == pytest.approx(average_precision_score(labels, values))
    assert sum(bool(truth[au].nunique() > 1) for au in coded) >= 4, "figures of several AUs are compared"


@pytest.fixture(scope="module")
def affwild2(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("affwild2") / "index"
    prepare(rendered, index)
    return index


def test_each_of_two_people_has_the_face_that_its_pictures_show(
    affwild2: Path, rendered: Path, engine: InferenceEngine
) -> None:
    scorer = IndexScorer(read_index(affwild2), engine)
    (job,) = (job for job in scorer.jobs() if len(job.tracks) == 2)
    scores, warnings = scorer.score(job)
    assert not warnings
    found = detect(job.path, model=engine).tracks
    chosen = set()
    for track in job.tracks:
        row = int(track.pictured[0])
        picture = read_crop(rendered / str(track.images[row]), 112).astype(float)
        (frame,) = read_frames(job.path, only=[int(track.frames[row])])

        def distance(face: TrackScores, frame: Frame = frame, picture: NDArray[Any] = picture) -> float:
            points = face.points[face.frames.tolist().index(frame.index)]
            return float(np.abs(crop_face(frame.image, points) - picture).mean())

        face = min(found, key=distance)
        chosen.add(face.face_id)
        mine = scores[(scores["track"] == track.name) & scores["has_face"]]
        at = np.searchsorted(face.frames, mine["frame"] - 1)
        np.testing.assert_array_equal(mine[list(AFFWILD2_AUS)].to_numpy(), face.probabilities[at])
        assert len(mine) > 20
    assert chosen == {0, 1}


def test_aligned_pictures_are_scored_as_crops_and_missing_ones_have_no_score(
    affwild2: Path, engine: InferenceEngine
) -> None:
    scorer = IndexScorer(read_index(affwild2), engine)
    jobs = scorer.jobs(crops="pictures")
    assert {job.kind for job in jobs} == {"crops"}
    assert len(jobs) == 4
    (job,) = [job for job in jobs if job.tracks[0].name == "1002"]
    scores, _ = scorer.score(job)
    pictured = [image is not None for image in job.tracks[0].images]
    assert scores["has_face"].tolist() == pictured
    assert not all(pictured)
    video = [each for each in scorer.jobs() if each.tracks[0].name == "1002"]
    other, _ = scorer.score(video[0])
    both = scores["has_face"] & other["has_face"]
    values = (each.loc[both, list(AFFWILD2_AUS)].to_numpy().ravel() for each in (scores, other))
    assert np.corrcoef(*values)[0, 1] > 0.9, "another crop of the same face has nearly the same scores"


@pytest.mark.parametrize("crops", ["video", "pictures"])
def test_scores_have_the_aus_and_intensities_of_the_checkpoint(
    affwild2: Path, other_aus_graphs: Path, crops: Crops
) -> None:
    """Five AUs of which AU05 is untrained and AU25 has no intensity; two are not in the index."""
    other = load_engine(other_aus_graphs)
    scorer = IndexScorer(read_index(affwild2), other)
    (job,) = (job for job in scorer.jobs(crops=crops) if job.tracks[0].name == "1002")
    scores, _ = scorer.score(job)
    names = ("AU45", "AU12", "AU05", "AU25", "AU09")
    assert au_columns(scores.columns) == other.config.au_names == names
    scored = scores[scores["has_face"]]
    assert len(scored) > 20
    known = [*names, *(f"{name}_r" for name in names)]
    missing = ["AU05", "AU05_r", "AU25_r"]
    assert scored[missing].isna().all(axis=None)
    assert scored[[name for name in known if name not in missing]].notna().all(axis=None)
    assert scored["AU12_r"].between(0, 5).all()
    assert shared_aus(read_labels(affwild2, "all"), check_scores(scores, "x")) == ("AU12", "AU25")


def test_tracks_of_one_video_without_pictures_are_refused(affwild2: Path, engine: InferenceEngine) -> None:
    index = read_index(affwild2)
    index.frames["image"] = None
    with pytest.raises(InputError, match="has no pictures of its face that tell which one it is"):
        IndexScorer(index, engine).jobs()
    index.tracks["video"] = None
    with pytest.raises(InputError, match="neither a video nor pictures"):
        IndexScorer(index, engine).jobs()


def test_an_interrupted_run_resumes_and_ends_with_the_same_scores(
    disfa: tuple[Path, pd.DataFrame],
    engine: InferenceEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(disfa[0], tmp_path / "index", dataset="disfa")
    index, out = read_index(tmp_path / "index"), tmp_path / "scores.parquet"
    scorer = IndexScorer(index, engine)
    calls: list[str] = []
    score = scorer.score

    def stop_at_second(job, progress=None):  # type: ignore[no-untyped-def]
        calls.append(job.key)
        if len(calls) == 2:
            raise KeyboardInterrupt
        table, warnings = score(job, progress)
        return table, [*warnings, f"warning {len(calls)}"]

    monkeypatch.setattr(scorer, "score", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        score_jobs(scorer, scorer.jobs(), out, {"model": "1"})
    assert not out.exists()
    with pytest.raises(InputError, match="another model, index or version"):
        score_jobs(scorer, scorer.jobs(), out, {"model": "2"})
    summary = score_jobs(scorer, scorer.jobs(), out, {"model": "1"})
    assert calls == [calls[0], calls[1], calls[1]], "the first video is not scored again"
    assert (summary.tracks, summary.failures) == (2, [])
    assert summary.warnings == ["warning 1", "warning 3"], "also those of the interrupted run"
    assert not out.with_name("scores.parquet.parts").exists()
    monkeypatch.undo()
    again = tmp_path / "again.parquet"
    score_jobs(IndexScorer(index, engine), scorer.jobs(), again, {"model": "1"})
    pd.testing.assert_frame_equal(read_scores(out), read_scores(again))


def test_an_unreadable_video_is_reported_and_the_others_are_scored(
    disfa: tuple[Path, pd.DataFrame], engine: InferenceEngine, tmp_path: Path
) -> None:
    root = tmp_path / "disfa"
    shutil.copytree(disfa[0], root)
    prepare(root, tmp_path / "index", dataset="disfa")
    next((root / "Video_LeftVideo").glob("*SN003*")).write_bytes(b"")
    scorer = IndexScorer(read_index(tmp_path / "index"), engine)
    summary = score_jobs(scorer, scorer.jobs(), tmp_path / "scores.parquet", {})
    assert summary.tracks == 1
    assert [type(failure) for failure in summary.failures] == [MediaError]
    assert set(read_scores(tmp_path / "scores.parquet")["track"]) == {"SN001"}


def test_scoring_with_graphs_does_not_import_torch(affwild2: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from auscan.cli.main import main\n"
        f"sys.argv = ['auscan', 'score', {str(affwild2)!r}, '--out', {str(tmp_path / 's.parquet')!r},"
        " '--split', 'val', '--crops', 'pictures']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "frames have scores of nano" in done.stdout
