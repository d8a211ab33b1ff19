"""Test that corruptions are graded and reproducible, and that the corrupted pictures are scored."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.faces.detector import FaceDetector
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.media.audio import Waveform
from auscan.media.video import read_frames
from auscan.pipeline.demo import make_demo_clip
from benchmarks.accuracy.corruptions import CORRUPTIONS, LEVELS, corrupt
from benchmarks.accuracy.held_out_data import LabelledClip, LabelledPictures, Truth
from benchmarks.accuracy.robustness import Condition, conditions, loop_audio, measure_condition
from benchmarks.accuracy.robustness_report import report
from recipes.nano.calibrate.array_inference import crop_clip, encode_clip
from recipes.nano.data.teacher_labels import NANO_AUS


@pytest.fixture(scope="module")
def points(portrait: NDArray[np.uint8]) -> NDArray[np.float32]:
    return max(FaceDetector()(portrait), key=lambda face: face.score).points


@pytest.fixture(scope="module")
def nano() -> InferenceEngine:
    return load_engine("nano")


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruption_grows_with_the_level_and_is_reproducible(
    kind: str, portrait: NDArray[np.uint8], points: NDArray[np.float32]
) -> None:
    assert corrupt(portrait, points, kind, 0) is portrait
    face = (slice(60, 190), slice(170, 290))
    levels = [corrupt(portrait, points, kind, level, seed=3) for level in LEVELS]
    changes = [np.abs(each.astype(float) - portrait)[face].mean() for each in levels]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert {each.dtype for each in levels} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(corrupt(portrait, points, kind, 3, seed=3), levels[2])


def test_a_cover_hides_its_part_of_the_face_and_no_other(
    portrait: NDArray[np.uint8], points: NDArray[np.float32]
) -> None:
    left_eye, right_eye, _, *corners = points.round().astype(int)
    mouth = np.mean(corners, axis=0).astype(int)

    def covered(kind: str, x: int, y: int) -> bool:
        there = corrupt(portrait, points, kind, 3)[y - 2 : y + 3, x - 2 : x + 3]
        return bool(np.abs(there.astype(float) - portrait[y - 2 : y + 3, x - 2 : x + 3]).mean() > 5)

    assert [covered("mouth covered", *place) for place in (left_eye, right_eye, mouth)] == [0, 0, 1]
    assert [covered("eyes covered", *place) for place in (left_eye, right_eye, mouth)] == [1, 1, 0]
    assert [covered("half covered", *place) for place in (left_eye, right_eye)] == [1, 0]


def truth(count: int, points: NDArray[np.float32], labels: NDArray[np.int8]) -> Truth:
    """Return the truth of NANO_AUS from labels [R, 12] of Aff-Wild2's AUs; the others have none."""
    nothing, every = np.zeros((count, 19), np.float32), np.full((count, 19), -1, np.int8)
    every[:, [NANO_AUS.index(name) for name in AFFWILD2_AUS]] = labels
    return Truth(every, np.tile(points, (count, 1, 1)).astype(np.float32), nothing, nothing)


def test_pictures_are_scored_after_corruption(
    portrait: NDArray[np.uint8], points: NDArray[np.float32], nano: InferenceEngine
) -> None:
    """The same smiling face ten times, labelled without a smile in five; AU23 is not labelled."""
    data = cv2.imencode(".png", portrait[..., ::-1])[1].tobytes()
    labels = np.tile(np.int8([[1], [0]]), (5, 12))
    labels[:, AFFWILD2_AUS.index("AU23")] = -1
    yaw = pd.DataFrame({"yaw": [0.0] * 8 + [20.0] * 2})
    pictures = LabelledPictures([data] * 10, truth(10, points, labels), yaw)
    clean = measure_condition(Condition("faces", "clean", 0), pictures, {"nano": nano}, np.inf)
    assert set(clean["group"]) == {"all", "0 to 15", "15 to 30"}
    all_faces = clean[clean["group"] == "all"].set_index("AU")
    assert list(all_faces.index) == list(AFFWILD2_AUS)
    assert all_faces["found"].tolist() == [1.0] * 12
    assert all_faces.loc["AU12", ["auc", "f1"]].tolist() == pytest.approx([0.5, 2 / 3])
    assert np.isnan(all_faces.loc["AU23", "auc"])
    dark = measure_condition(Condition("faces", "darkness", 3), pictures, {"nano": nano}, np.inf)
    assert set(dark["group"]) == {"all"}
    gone = measure_condition(Condition("faces", "noise", 3), pictures, {"one": nano, "same": nano}, np.inf)
    assert gone["model"].tolist() == ["one"] * 12 + ["same"] * 12


def test_a_clip_is_scored_with_each_audio_and_only_on_the_known_face(
    tmp_path: Path, nano: InferenceEngine
) -> None:
    clip = tmp_path / "demo.mp4"
    make_demo_clip(clip)
    frames = [frame for frame in read_frames(clip) if frame.time_s < 1]
    (track,) = encode_clip(nano, crop_clip(frames, 112)).values()
    labels = np.tile(np.int8([[1], [0]]), (125, 12))[:250]
    noise = Waveform((0.2 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32), 0.0)
    known = truth(250, track.points[0], labels)
    far = Truth(known.labels, known.points + 150, known.soft, known.scores)
    for there, share in ((known, 1.0), (far, 0.0)):
        clips = [
            LabelledClip(clip, there, noise),
            LabelledClip(clip, there, Waveform(0 * noise.samples, 0.0)),
        ]
        table = measure_condition(Condition("talking", "clean", 0), clips, {"nano": nano}, 0.5)
        assert set(table["group"]) == {"own", "none", "another's"}
        assert set(table["found"]) == {share}
        assert set(table["rows"]) == {26}


def test_looped_audio_has_the_length_and_start_of_the_clips_own_audio() -> None:
    own, other = Waveform(np.zeros(10, np.float32), 0.5), Waveform(np.float32([1, 2, 3]), 7.0)
    looped = loop_audio(other, own)
    assert looped.samples.tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]
    assert looped.start_s == 0.5


def test_the_report_has_every_model_and_condition_and_writes_the_curves(tmp_path: Path) -> None:
    rows = []
    for source in ("faces", "rendered", "clips", "talking"):
        for condition in conditions(source):
            stills = ["all", "0 to 15", "30 to 45"] if condition.level == 0 else ["all"]
            groups = stills if source in ("faces", "rendered") else ["own", "none", "another's"]
            for group in groups:
                for number, model in enumerate(("whole", "silent")):
                    figures = {"auc": 0.9 - 0.1 * number - 0.05 * condition.level, "f1": 0.7, "ece": 0.02}
                    figures |= {"found": 1 - 0.1 * condition.level, "rows": 50, "model": model}
                    about = {"source": source, "kind": condition.kind, "level": condition.level}
                    rows += [{"AU": name, "group": group, **figures, **about} for name in AFFWILD2_AUS]
    results = pd.DataFrame(rows)
    gone = (results["kind"] == "noise") & (results["level"] == 3)
    results.loc[gone, ["auc", "f1", "ece"]] = np.nan
    text = "\n".join(report(results, ["whole", "silent"], None))
    assert "| clean | 100.0% | 0.900 | 0.700 | 0.020 | 0.800 | 0.700 | 0.020 |" in text
    assert "| mouth covered, 1 of its width and height | 70.0% | 0.750 |" in text
    assert "| noise, 50 of 255 | 70.0% | - | - | - | - | - | - |" in text
    assert "| rendered, 30 to 45 degrees | 50 | 12 | 0.900 | 0.700 | 0.800 | 0.700 |" in text
    assert text.count("| mouth covered, another's sound | 0.750 | 0.750 | 0.750 | 0.650 |") == 2
    pytest.importorskip("matplotlib")
    lines = report(results, ["whole", "silent"], tmp_path / "robustness.md")
    assert "![Mean AUC by kind and level](robustness-clips.png)" in lines
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures == {f"robustness-{source}.png" for source in ("faces", "rendered", "clips")}
