"""`detect` returns a row for every frame and face, and results do not depend on batch and chunk sizes."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from fastparquet import ParquetFile
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import expit, logit

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import Calibration, HubAudioConfig, OperatingPoints
from auscan.core.errors import CheckpointError, InputError, MediaError
from auscan.faces.detector import FaceDetector
from auscan.inference.engine import (
    CONTEXT_S,
    SEGMENT_S,
    AudioLevel,
    AudioTokens,
    FusedFrames,
    InferenceEngine,
    MouthOpening,
    VisualFeatures,
)
from auscan.inference.torch_engine import TorchEngine
from auscan.media import recording
from auscan.media.audio import Waveform, read_waveform
from auscan.media.video import read_frames
from auscan.model.bidirectional import Direction
from auscan.pipeline import detect as pipeline
from auscan.pipeline.detect import detect
from auscan.pipeline.live import LiveDetector
from auscan.results.result import Result
from auscan.results.table import METADATA_KEY, NO_FACE, active_columns

FRAMES = 40
TRAINED = [name for name in AFFWILD2_AUS if name != "AU23"]


class RecordingEngine:
    """Engine that records the logits and elapsed frames of each track, and the sizes of batches of crops."""

    def __init__(self, engine: InferenceEngine) -> None:
        self.engine = engine
        self.logits: list[NDArray[np.float32]] = []
        self.elapsed: list[NDArray[np.float64]] = []
        self.batch_sizes: list[int] = []
        self.fused: FusedFrames | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def encode_faces(self, crops: NDArray[np.uint8], *args: Any, **options: bool) -> VisualFeatures:
        self.batch_sizes.append(len(crops))
        return self.engine.encode_faces(crops, *args, **options)

    def scan_block(self, block: int, direction: Direction, *args: Any) -> Any:
        if (block, direction) == (0, "forward"):
            self.elapsed.append(args[2])
        return self.engine.scan_block(block, direction, *args)

    def fuse_audio(self, *args: Any) -> FusedFrames:
        self.fused = self.engine.fuse_audio(*args)
        return self.fused

    def classify(self, *args: Any) -> NDArray[np.float32]:
        logits = self.engine.classify(*args)
        late = None if self.fused is None else self.fused.audio_logits
        self.logits.append(logits if late is None else logits + late)
        return logits


class TrustingEngine(RecordingEngine):
    """Engine that hears no change of the opening of the mouth: no evidence against the only face."""

    def mouth_opening(self, *args: Any) -> MouthOpening | None:
        opening = self.engine.mouth_opening(*args)
        return opening and MouthOpening(opening.seen, np.zeros_like(opening.heard))


def uneven_times_s(count: int) -> NDArray[np.float64]:
    """Return times in seconds of about 25 frames a second with jitter, as phones write them."""
    steps = 0.04 + 0.012 * np.sin(np.arange(count))
    return np.round(np.cumsum(steps) * 90_000) / 90_000


@pytest.fixture(scope="session")
def engine(tiny_checkpoint: Path) -> InferenceEngine:
    return TorchEngine(tiny_checkpoint)


@pytest.fixture(scope="session")
def clip(
    tmp_path_factory: pytest.TempPathFactory,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> Path:
    """40 unevenly spaced frames of one face with two seconds of noise of varying loudness."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    samples = (noise * np.sin(np.linspace(0, 12, 32_000)) ** 2).astype(np.float32)
    path = tmp_path_factory.mktemp("clips") / "talk.mp4"
    return write_clip(path, face_images(FRAMES), uneven_times_s(FRAMES), samples)


@pytest.fixture(scope="session")
def silent_clip(clip: Path) -> Path:
    """The same video packets without audio."""
    path = clip.with_name("silent.mp4")
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return path


@pytest.fixture(scope="session")
def recorder(engine: InferenceEngine) -> RecordingEngine:
    return RecordingEngine(engine)


@pytest.fixture(scope="session")
def result(clip: Path, recorder: RecordingEngine) -> Result:
    return detect(clip, model=recorder)


@pytest.fixture(scope="session")
def logits(result: Result, recorder: RecordingEngine) -> NDArray[np.float32]:
    """Logits [T, A] of the face, with the default chunk sizes."""
    return recorder.logits[0]


def probabilities(result: Result) -> NDArray[np.float64]:
    return result.to_pandas()[list(AFFWILD2_AUS)].to_numpy()


def test_every_decoded_frame_has_a_row_with_its_time_in_the_container(clip: Path, result: Result) -> None:
    with av.open(str(clip)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    table = result.to_pandas()
    assert len(times) == FRAMES
    assert table["frame"].tolist() == list(range(FRAMES))
    assert table["timestamp"].tolist() == times
    assert np.diff(times).std() > 0.005


def test_the_face_keeps_one_face_id_and_is_scored(result: Result) -> None:
    table = result.to_pandas()
    assert (table["success"] == 1).all()
    assert (table["face_id"] == 0).all()
    scores = table[TRAINED].to_numpy()
    assert ((scores > 0) & (scores < 1)).all()
    assert (scores.std(axis=0) > 1e-4).all()


def test_an_untrained_au_is_unknown_in_every_row(result: Result) -> None:
    table = result.to_pandas()
    assert table["AU23"].isna().all()
    assert table["AU23_c"].isna().all()
    assert table[[f"{name}_c" for name in TRAINED]].notna().all(axis=None)
    assert np.isnan(result.tracks[0].probabilities[:, AFFWILD2_AUS.index("AU23")]).all()


def test_untrained_pose_and_occlusion_are_unknown_and_give_no_reason(
    clip: Path, result: Result, tiny_checkpoint: Path
) -> None:
    """Even if the untrained layer happens to predict that every face is covered."""
    pose_occlusion_columns = ["yaw", "pitch", "covered"]
    untrained = TorchEngine(tiny_checkpoint)
    untrained.network.visual.pose_occlusion.bias[2] = 9.0
    assert set(detect(clip, model=untrained).table["reason"]) == {"occluded"}
    untrained._config = untrained.config.model_copy(update={"has_pose_occlusion": False})
    table = detect(clip, model=untrained).table
    assert table[pose_occlusion_columns].isna().all(axis=None)
    assert set(table["reason"]) == {""}
    assert result.table[pose_occlusion_columns].notna().all(axis=None)


def test_low_quality_faces_are_scored_on_request(
    tmp_path: Path, engine: InferenceEngine, write_clip: Callable[..., Path], portrait: NDArray[np.uint8]
) -> None:
    blurred = cv2.GaussianBlur(portrait[24:216, 130:322], (0, 0), 4.5).astype(np.uint8)
    clip = write_clip(tmp_path / "blurred.mp4", [blurred] * 12, np.arange(12) / 25)
    strict, lenient = (detect(clip, model=engine, keep_all=keep_all) for keep_all in (False, True))
    assert set(strict.table["reason"]) == set(lenient.table["reason"]) == {"blur"}
    assert strict.table["AU12_c"].isna().all()
    assert lenient.table["AU12_c"].notna().all()
    assert_array_equal(strict.table["AU12"], lenient.table["AU12"])
    assert (strict.summary()["judged"], lenient.summary()["judged"]) == (0, 1)
    assert strict.summary()["seconds_active"]["AU12"] is None


def test_an_au_is_active_at_or_above_its_own_threshold(result: Result, engine: InferenceEngine) -> None:
    table = result.to_pandas()
    for name, threshold in zip(AFFWILD2_AUS, engine.config.thresholds, strict=True):
        if name in TRAINED:
            assert_array_equal(table[f"{name}_c"].astype(float), (table[name] >= threshold).astype(float))


def test_probabilities_are_the_sigmoid_of_the_networks_logits(clip: Path, engine: InferenceEngine) -> None:
    trusting = TrustingEngine(engine)
    scores = probabilities(detect(clip, model=trusting))
    expected = 1 / (1 + np.exp(-trusting.logits[0].astype(np.float64)))
    trained = [AFFWILD2_AUS.index(name) for name in TRAINED]
    assert_allclose(scores[:, trained], expected[:, trained], atol=1e-6)


def test_loudness_is_measured_on_the_clock_of_the_frames(clip: Path, result: Result) -> None:
    chunks = read_waveform(clip)
    assert chunks is not None
    waveform = next(chunks)
    assert result.sound is not None
    assert (result.sound.start_s, result.sound.step_s) == (waveform.start_s, 0.02)
    assert len(result.sound.level_db) == round(len(waveform.samples) / 320)
    power = np.square(waveform.samples[320:640], dtype=np.float64).mean()
    assert result.sound.level_db[1] == pytest.approx(10 * np.log10(power), abs=0.01)
    assert not result.sound.speech.any(), "noise is not speech"


def test_without_audio_the_result_has_no_loudness_and_no_speech(
    silent_clip: Path, engine: InferenceEngine
) -> None:
    silent = detect(silent_clip, model=engine)
    assert silent.sound is None
    assert silent.events["speech"].isna().all()


def test_a_baseline_subtracted_during_detection_equals_one_applied_afterwards(
    clip: Path, result: Result, engine: InferenceEngine
) -> None:
    at_once, after = detect(clip, model=engine, baseline="median"), result.with_baseline("median")
    pd.testing.assert_frame_equal(at_once.table, after.table)
    pd.testing.assert_frame_equal(at_once.events, after.events)
    assert at_once.info.baseline == "median"
    with pytest.raises(InputError, match="is not a baseline"):
        detect(clip, model=engine, baseline="mean")


def test_the_result_states_its_source_model_command_and_versions(
    clip: Path, result: Result, engine: InferenceEngine
) -> None:
    info = result.info
    assert (info.source, info.frames, info.has_audio, info.model) == ("talk.mp4", FRAMES, True, "tiny")
    assert info.thresholds == engine.config.thresholds
    assert info.untrained_aus == ("AU23",)
    assert info.command == f"auscan detect {clip}"
    assert {"auscan", "torch", "av"} <= set(info.versions)
    times_s = uneven_times_s(FRAMES)
    assert info.duration_s == pytest.approx(times_s[-1] - times_s[0] + 0.04, abs=0.02)
    assert info.seconds > 0


def test_an_operating_point_changes_only_which_aus_are_active(
    clip: Path, result: Result, engine: InferenceEngine, tmp_path: Path
) -> None:
    """In the table, in the files and in live detection; probabilities stay the same."""
    never, always = (1.0,) * 12, (0.0,) * 12
    points = OperatingPoints(balanced=result.info.thresholds, precise=never, sensitive=always)
    model = RecordingEngine(engine)
    model.config = engine.config.model_copy(update={"operating_points": points})
    for point, share in (("precise", 0), ("sensitive", 1)):
        chosen = detect(clip, model=model, operating_point=point)
        assert_array_equal(probabilities(chosen), probabilities(result))
        active = chosen.table[active_columns(AFFWILD2_AUS)].to_numpy()
        assert np.nanmin(active) == np.nanmax(active) == share
        assert chosen.info.thresholds == getattr(points, point)
        assert chosen.summary()["operating_point"] == point
        stored = ParquetFile(chosen.save(tmp_path / point) / "aus.parquet").key_value_metadata[METADATA_KEY]
        metadata = json.loads(stored)
        assert metadata["operating_point"] == point
        assert list(metadata["thresholds"].values()) == list(getattr(points, point))
        with LiveDetector(model, lag_s=np.inf, operating_point=point) as live:
            assert live.config.thresholds == getattr(points, point)
            rows = [row for f in read_frames(clip) for row in live.push(f.image, f.time_s)] + live.finish()
        assert {row["AU12_c"] for row in rows} == {share}


def test_an_operating_point_that_the_model_lacks_is_an_input_error(
    clip: Path, engine: InferenceEngine
) -> None:
    assert detect(clip, model=engine, operating_point="default").summary()["operating_point"] == "default"
    with pytest.raises(InputError, match="tiny has no operating points"):
        detect(clip, model=engine, operating_point="precise")
    with pytest.raises(InputError, match="tiny has no operating points"):
        LiveDetector(engine, operating_point="precise")


def test_probabilities_are_calibrated_by_the_checkpoint(
    clip: Path, result: Result, engine: InferenceEngine
) -> None:
    model = RecordingEngine(engine)
    half = Calibration(scale=(0.5,) * 12, shift=(1.0,) * 12)
    model.config = engine.config.model_copy(update={"calibration": half})
    before = logit(probabilities(result).astype(np.float64))
    calibrated = detect(clip, model=model)
    assert_allclose(probabilities(calibrated), expit(0.5 * before + 1), atol=1e-5)
    active = calibrated.table["AU12_c"].to_numpy() == 1
    assert_array_equal(active, calibrated.table["AU12"].to_numpy() >= np.float32(model.config.thresholds[6]))


def test_detecting_a_clip_twice_returns_the_same_table(
    clip: Path, result: Result, engine: InferenceEngine
) -> None:
    pd.testing.assert_frame_equal(detect(clip, model=engine).to_pandas(), result.to_pandas())


def test_a_model_may_be_an_engine_a_path_or_a_string(
    clip: Path, result: Result, tiny_checkpoint: Path
) -> None:
    for model in (tiny_checkpoint, str(tiny_checkpoint)):
        pd.testing.assert_frame_equal(detect(str(clip), model=model).to_pandas(), result.to_pandas())


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, FRAMES])
def test_logits_do_not_depend_on_how_many_crops_are_encoded_together(
    clip: Path,
    engine: InferenceEngine,
    logits: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_CROPS", chunk)
    recorded = RecordingEngine(engine)
    detect(clip, model=recorded)
    assert recorded.batch_sizes == [chunk] * (FRAMES // chunk) + [FRAMES % chunk] * (FRAMES % chunk > 0)
    assert_allclose(recorded.logits[0], logits, atol=1e-4)


@pytest.mark.parametrize("chunk_s", [0.013, 0.37, 1.0])
def test_logits_do_not_depend_on_the_length_of_audio_chunks(
    clip: Path,
    engine: InferenceEngine,
    logits: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    chunk_s: float,
) -> None:
    recorded = RecordingEngine(engine)
    monkeypatch.setattr(recording, "read_waveform", lambda path: read_waveform(path, chunk_s))
    detect(clip, model=recorded)
    assert_allclose(recorded.logits[0], logits, atol=1e-4)


def test_a_silent_clip_is_scored_from_the_face_alone(
    clip: Path, silent_clip: Path, result: Result, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an audio stream there are no audio tokens, rather than tokens of silence."""
    silent = detect(silent_clip, model=engine)
    assert silent.info.has_audio is False
    assert np.abs(probabilities(silent) - probabilities(result))[:, 0].max() > 1e-4
    monkeypatch.setattr(recording, "read_waveform", lambda path: None)
    without_audio = detect(clip, model=engine)
    assert without_audio.info.has_audio is False
    pd.testing.assert_frame_equal(silent.to_pandas(), without_audio.to_pandas())


def test_audio_too_short_for_one_token_counts_as_no_audio(
    clip: Path, silent_clip: Path, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_short = Waveform(np.ones(100, np.float32), 0.0)
    monkeypatch.setattr(recording, "read_waveform", lambda path: iter([too_short]))
    short = detect(clip, model=engine)
    assert short.info.has_audio is False
    monkeypatch.undo()
    pd.testing.assert_frame_equal(short.to_pandas(), detect(silent_clip, model=engine).to_pandas())


def test_audio_out_of_reach_of_any_face_is_measured_but_not_encoded(
    tmp_path: Path,
    engine: InferenceEngine,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A face for two seconds, then two minutes without a face but with audio."""
    images = [*face_images(FRAMES), *[np.full((192, 192, 3), 90, np.uint8)] * 12]
    times_s = [*uneven_times_s(FRAMES), *np.arange(10, 130, 10)]
    noise = 0.1 * np.random.default_rng(0).standard_normal(125 * 16_000).astype(np.float32)
    encoded_s: list[float] = []

    def encode(samples: NDArray[np.float32], level: AudioLevel | None = None) -> NDArray[np.float32]:
        encoded_s.append(len(samples) / 16_000)
        return type(engine).encode_audio(engine, samples, level)

    monkeypatch.setattr(engine, "encode_audio", encode)
    result = detect(write_clip(tmp_path / "left.mp4", images, times_s, noise), model=engine)
    assert encoded_s == [SEGMENT_S + CONTEXT_S]
    assert result.info.has_audio
    assert result.sound is not None
    assert len(result.sound.level_db) * result.sound.step_s == pytest.approx(125, abs=0.2)


def test_frames_without_a_face_have_a_row_of_unknown_values(
    tmp_path: Path,
    engine: InferenceEngine,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> None:
    """Without a face, values are unknown, never 0; a face that returns soon keeps its face_id."""
    images = face_images(1) * 24
    images[8:16] = [np.full_like(images[0], 90)] * 8
    recorder = RecordingEngine(engine)
    clip = write_clip(tmp_path / "gap.mp4", images, uneven_times_s(24))
    table = detect(clip, model=recorder).to_pandas()
    absent = table["frame"].between(8, 15)
    assert len(table) == 24
    assert table["success"].tolist() == (~absent).astype(int).tolist()
    assert (table.loc[absent, "face_id"] == NO_FACE).all()
    assert (table.loc[absent, "confidence"] == 0).all()
    empty = ["x", "y", "w", "h", *AFFWILD2_AUS, *(f"{name}_c" for name in AFFWILD2_AUS)]
    assert table.loc[absent, empty].isna().all(axis=None)
    assert (table.loc[~absent, "face_id"] == 0).all()
    assert table.loc[~absent, TRAINED].notna().all(axis=None)
    times_s = table.loc[~absent, "timestamp"].to_numpy()
    assert_allclose(recorder.elapsed[0][1:], np.diff(times_s) * 30)  # the scan takes the gap into account


def test_a_clip_without_a_face_has_no_tracks_and_no_success(
    tmp_path: Path, engine: InferenceEngine, write_clip: Callable[..., Path]
) -> None:
    wall = np.full((128, 128, 3), 120, np.uint8)
    result = detect(write_clip(tmp_path / "wall.mp4", [wall] * 6, np.arange(6) / 25), model=engine)
    assert result.tracks == ()
    assert result.to_pandas()["success"].tolist() == [0] * 6


def write_picture(path: Path, image: NDArray[np.uint8]) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def test_a_picture_is_one_frame_without_audio(
    tmp_path: Path, engine: InferenceEngine, portrait: NDArray[np.uint8]
) -> None:
    result = detect(write_picture(tmp_path / "face.png", portrait), model=engine)
    table = result.to_pandas()
    assert table[["frame", "timestamp", "face_id", "success"]].to_numpy().tolist() == [[0, 0, 0, 1]]
    assert table[TRAINED].notna().all(axis=None)
    assert (result.info.frames, result.info.has_audio) == (1, False)
    x, y, w, h = table.loc[0, ["x", "y", "w", "h"]].astype(float)
    assert x < 226 < x + w
    assert y < 119 < y + h


def test_a_folder_of_pictures_is_a_video_with_the_given_rate(
    tmp_path: Path, engine: InferenceEngine, face_images: Callable[[int], list[NDArray[np.uint8]]]
) -> None:
    for index, image in enumerate(face_images(5)):
        write_picture(tmp_path / f"{index:03d}.png", image)
    table = detect(tmp_path, model=engine, folder_rate_hz=10.0).to_pandas()
    assert table["timestamp"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert (table["face_id"] == 0).all()


def test_two_faces_have_two_face_ids_and_a_row_each(
    tmp_path: Path, engine: InferenceEngine, portrait: NDArray[np.uint8]
) -> None:
    face = portrait[:256, 98:354]
    both = np.concatenate([face, face // 2 + 60], axis=1)
    for index in range(6):
        write_picture(tmp_path / f"{index}.png", both)
    result = detect(tmp_path, model=engine, folder_rate_hz=25.0)
    table = result.to_pandas()
    assert table["frame"].tolist() == np.repeat(np.arange(6), 2).tolist()
    assert table["face_id"].tolist() == [0, 1] * 6
    assert [track.face_id for track in result.tracks] == [0, 1]
    sides = table.assign(right=(table["x"] + table["w"] / 2 > 256)).groupby("face_id")["right"]
    assert sides.nunique().tolist() == [1, 1]
    assert sorted(sides.first()) == [False, True]
    assert table[TRAINED].notna().all(axis=None)


def test_refined_points_lie_on_the_face_in_the_frame(
    tmp_path: Path, tiny_checkpoint: Path, portrait: NDArray[np.uint8]
) -> None:
    """Points are in pixels of the frame, not of the crop; with zero weights they are the template points."""
    engine = TorchEngine(tiny_checkpoint)
    engine.network.visual.points.weight.zero_()
    engine.network.visual.points.bias.zero_()
    result = detect(write_picture(tmp_path / "face.png", portrait), model=engine)
    found = FaceDetector()(portrait)[0].points
    eye_distance = np.linalg.norm(found[0] - found[1])
    errors = np.linalg.norm(result.tracks[0].points[0] - found, axis=-1)
    assert errors.max() < 0.15 * eye_distance
    assert 30 < eye_distance < 60


def test_progress_counts_every_frame_up_to_the_number_expected(clip: Path, engine: InferenceEngine) -> None:
    seen: list[tuple[int, int | None]] = []
    detect(clip, model=engine, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, FRAMES) for done in range(1, FRAMES + 1)]


def test_crops_are_encoded_in_batches_of_32(result: Result, recorder: RecordingEngine) -> None:
    assert recorder.batch_sizes == [32, FRAMES - 32]


def test_a_missing_model_is_reported_before_the_video_is_read(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Iterator[Any]:
        raise AssertionError("The video was read.")

    monkeypatch.setattr(recording, "read_frames", fail)
    with pytest.raises(CheckpointError, match="nowhere"):
        detect(clip, model=tmp_path / "nowhere")


def test_a_source_that_cannot_be_read_is_a_media_error(
    tmp_path: Path, engine: InferenceEngine, clip: Path
) -> None:
    with pytest.raises(MediaError, match=r"missing\.mp4"):
        detect(tmp_path / "missing.mp4", model=engine)
    cut = Path(shutil.copy(clip, tmp_path / "cut.mp4"))
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"cut\.mp4"):
        detect(cut, model=engine)


class SpeakingEngine(TrustingEngine):
    """Engine whose only face speaks at 10 frames a second; the sound is 0.16 s late."""

    def encode_faces(self, crops: NDArray[np.uint8], *args: Any, **options: bool) -> VisualFeatures:
        features = super().encode_faces(crops, *args, **options)
        return replace(features, gates=np.ones((len(crops), len(AFFWILD2_AUS)), np.float32))

    def mouth_opening(self, embedding: NDArray[np.float32], audio: AudioTokens | None) -> MouthOpening:
        knots = np.random.default_rng(0).normal(0, 1, 200)
        picture_s = np.arange(len(embedding)) / 10
        sound_s = np.empty(0) if audio is None else audio.times_s - 0.16
        seen, heard = (np.interp(5 * times_s, np.arange(200), knots) for times_s in (picture_s, sound_s))
        return MouthOpening(seen.astype(np.float32), heard.astype(np.float32))


def test_a_late_sound_is_found_shifted_and_reported(
    tmp_path: Path,
    engine: InferenceEngine,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> None:
    times_s = np.arange(110) / 10
    noise = (0.1 * np.random.default_rng(0).standard_normal(11 * 16_000)).astype(np.float32)
    clip = write_clip(tmp_path / "late.mp4", face_images(110), times_s, noise)
    late = detect(clip, model=SpeakingEngine(engine))
    offset_s = late.info.sound_offset_s
    assert offset_s == pytest.approx(0.16, abs=0.021)
    assert late.summary()["sound_offset_s"] == offset_s
    (warning,) = late.summary()["warnings"]
    assert f"late.mp4: the sound is {offset_s:.2f} s late" in warning
    assert late.table["speaking"].between(0, 1).all()
    assert late.table["speaking"][50:].mean() > 0.7
    shifted = write_clip(tmp_path / "shifted.mp4", face_images(110), times_s + 0.16, noise)
    columns = [AFFWILD2_AUS.index(name) for name in TRAINED]
    same, unshifted = (
        np.abs(probabilities(detect(each, model=TrustingEngine(engine))) - probabilities(late))[
            20:90, columns
        ]
        for each in (shifted, clip)
    )
    assert same.max() < 0.02
    assert same.mean() < 0.2 * unshifted.mean()


def test_speaking_is_unknown_without_sound(silent_clip: Path, engine: InferenceEngine) -> None:
    silent = detect(silent_clip, model=engine)
    assert silent.table["speaking"].isna().all()
    assert silent.summary()["sound_offset_s"] is None


def test_audio_is_scaled_over_the_whole_file_for_encoders_that_expect_it(
    clip: Path, engine: InferenceEngine, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sound that the table describes stays that of the file."""
    received: list[NDArray[np.float32]] = []

    def encode(samples: NDArray[np.float32], level: AudioLevel | None = None) -> NDArray[np.float32]:
        assert level is not None
        received.append(level.scale(samples))
        return type(engine).encode_audio(engine, samples)

    audio = HubAudioConfig(normalise="file")
    network = engine.config.network.model_copy(update={"audio": audio})
    monkeypatch.setattr(engine, "_config", engine.config.model_copy(update={"network": network}))
    monkeypatch.setattr(engine, "encode_audio", encode)
    scaled = detect(clip, model=engine)
    (samples,) = received
    assert samples.mean() == pytest.approx(0.0, abs=1e-4)
    assert samples.std() == pytest.approx(1.0, abs=1e-3)
    assert scaled.sound is not None
    assert result.sound is not None
    assert_array_equal(scaled.sound.level_db, result.sound.level_db)
