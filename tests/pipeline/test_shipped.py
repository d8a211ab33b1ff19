"""The shipped model detects the known AUs of the demo: a smile with parted lips, no lip corner depressor."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import auscan
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.checkpoint_folder import CARD_FILE, SHIPPED_CHECKPOINTS
from auscan.core.config import SAMPLE_RATE_HZ, nano
from auscan.inference.engine import InferenceEngine
from auscan.inference.engine_parity import compare_engines
from auscan.inference.load import load_engine
from auscan.media.video import read_frames
from auscan.pipeline.demo import FRAMES, OCCLUDED_FRAMES, demo_crops, demo_frame, make_demo_clip

MAX_BYTES = 30_000_000


@pytest.fixture(scope="session")
def nano_engine() -> InferenceEngine:
    return load_engine("nano")


@pytest.fixture(scope="session")
def demo_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    make_demo_clip(path)
    return path


@pytest.fixture(scope="session")
def demo_result(demo_clip: Path) -> auscan.Result:
    """Result of the clip of `auscan demo`: 10 s of video with audio."""
    return auscan.detect(demo_clip)


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory, portrait: NDArray[np.uint8]) -> Path:
    path = tmp_path_factory.mktemp("picture") / "astronaut.png"
    assert cv2.imwrite(str(path), portrait[..., ::-1])
    return path


def free_frames(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the frames before and after the hand passes."""
    return table[~table["frame"].isin(OCCLUDED_FRAMES)]


@pytest.mark.parametrize(
    ("au", "least", "most"), [("AU12", 0.8, 1.0), ("AU25", 0.8, 1.0), ("AU15", 0.0, 0.1)]
)
def test_the_smile_of_the_demo_clip_is_detected_in_unoccluded_frames(
    demo_result: auscan.Result, au: str, least: float, most: float
) -> None:
    """Also while she is moved, tilted and darkened; frames without a row for the face count as not active."""
    free = free_frames(demo_result.to_pandas())
    assert free["frame"].nunique() == FRAMES - len(OCCLUDED_FRAMES)
    assert least <= (free[f"{au}_c"] == 1).mean() <= most


def test_every_frame_of_the_demo_clip_is_in_the_table(demo_result: auscan.Result, demo_clip: Path) -> None:
    table = demo_result.to_pandas()
    times_s = [frame.time_s for frame in read_frames(demo_clip)]
    assert table.drop_duplicates("frame")["timestamp"].tolist() == times_s
    assert (free_frames(table)["success"] == 1).all()
    assert free_frames(table)["face_id"].nunique() == 1


Corrupt = Callable[[NDArray[np.uint8]], NDArray[np.floating]]


def shrink(image: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Shrink a picture until the eyes are less than 7 px apart."""
    return np.asarray(cv2.resize(image, (44, 44), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("reason", "corrupt"),
    [
        ("", lambda image: image),
        ("", lambda image: 0.3 * image),
        ("dark", lambda image: 0.05 * image),
        ("blur", lambda image: cv2.GaussianBlur(image, (0, 0), 12)),
        ("small", shrink),
    ],
    ids=["clear", "dim", "dark", "blurred", "far away"],
)
def test_the_reason_of_low_quality_is_reported(
    tmp_path: Path,
    nano_engine: InferenceEngine,
    portrait: NDArray[np.uint8],
    write_clip: Callable[..., Path],
    reason: str,
    corrupt: Corrupt,
) -> None:
    images = [corrupt(demo_frame(portrait, index)).round().astype(np.uint8) for index in range(4)]
    clip = write_clip(tmp_path / "corrupted.mp4", images, np.arange(4) / 25)
    table = auscan.detect(clip, model=nano_engine).to_pandas()
    assert set(table.loc[table["success"] == 1, "reason"]) == {reason}
    assert (table["AU12_c"] == 1).all() == (reason == "")


def test_a_hand_over_the_face_is_reported_and_a_free_face_is_scored(demo_result: auscan.Result) -> None:
    """The hand covers the mouth; in the dark part of the clip the face is still scored."""
    table = demo_result.to_pandas()
    assert (free_frames(table)["reason"] == "").all()
    hidden = table[table["frame"].isin(OCCLUDED_FRAMES) & (table["success"] == 1)]
    assert set(hidden["reason"]) == {"", "occluded"}
    worst = hidden.loc[hidden["covered"].idxmax()]
    assert worst["reason"] == "occluded"
    assert np.isnan(worst["AU12_c"])
    assert worst["AU12"] >= 0


def test_the_smile_of_the_picture_is_detected_in_one_frame(picture: Path) -> None:
    table = auscan.detect(picture).to_pandas()
    assert len(table) == 1
    assert table.loc[0, ["AU12_c", "AU25_c", "AU15_c"]].tolist() == [1, 1, 0]


def test_the_shipped_model_works_with_and_without_audio(
    tmp_path: Path, nano_engine: InferenceEngine, portrait: NDArray[np.uint8], write_clip: Callable[..., Path]
) -> None:
    """A soft tone carries no information about the smile, which is detected with and without audio."""
    images = [demo_frame(portrait, index) for index in range(50)]
    tone = 0.05 * np.sin(2 * np.pi * 220 * np.arange(32_000) / SAMPLE_RATE_HZ)
    scores = []
    for name, samples in (("audio.mp4", tone.astype(np.float32)), ("silent.mp4", None)):
        clip = write_clip(tmp_path / name, images, np.arange(50) / 25, samples)
        result = auscan.detect(clip, model=nano_engine)
        assert result.info.has_audio == (samples is not None)
        table = result.to_pandas()
        assert (table[["AU12_c", "AU25_c"]] == 1).mean().min() >= 0.8
        scores.append(table[list(AFFWILD2_AUS)].to_numpy())
    assert np.nanmax(np.abs(scores[0] - scores[1])) > 1e-6


def test_untrained_aus_are_always_nan_and_all_others_never(
    demo_result: auscan.Result, nano_engine: InferenceEngine
) -> None:
    faces = demo_result.to_pandas().query("success == 1")
    for name in AFFWILD2_AUS:
        assert faces[name].isna().all() == (name in nano_engine.config.untrained_aus), name
        assert faces[name].isna().any() == (name in nano_engine.config.untrained_aus), name


def test_the_checkpoint_is_nano_and_small_enough_to_ship(nano_engine: InferenceEngine) -> None:
    config = nano_engine.config
    assert config.name == "nano"
    assert config.au_names == AFFWILD2_AUS
    assert config.licence == "Apache-2.0"
    assert (config.network.visual.kind, config.network.audio.kind) == ("conv", "logmel")
    assert config.network == nano(), "The named size and the shipped weights have drifted apart."
    assert sum(file.stat().st_size for file in (SHIPPED_CHECKPOINTS / "nano").iterdir()) <= MAX_BYTES
    assert len((SHIPPED_CHECKPOINTS / "nano" / CARD_FILE).read_text("utf-8")) > 500


def test_the_shipped_graphs_match_the_shipped_weights(nano_engine: InferenceEngine) -> None:
    """The int8 graphs are exported in a separate step, so outdated graphs would otherwise go unnoticed."""
    crops = demo_crops(nano().visual.crop_size)
    differences = compare_engines(load_engine("nano", backend="torch"), nano_engine, crops)["real"]
    assert differences["mean_probability"] < 0.02
    for name in ("encode_sound", "hear", "sweep", "read"):
        assert differences[name] < 1e-4, name


def test_the_demo_has_attributions_in_every_frame(demo_clip: Path, demo_result: auscan.Result) -> None:
    """A fixed number of patches is selected; in unoccluded frames they include the middle of the face."""
    result = auscan.detect(demo_clip, attributions=True)
    pd.testing.assert_frame_equal(result.table, demo_result.table)
    attributions = result.attributions
    assert attributions is not None
    assert attributions.frames.tolist() == result.table.query("success == 1")["frame"].tolist()
    selected = attributions.patches > 0
    assert (selected.sum(axis=1) == nano().alignment.active_patches).all()
    np.testing.assert_allclose(attributions.attention.sum(axis=-1), 1.0, atol=0.05)
    assert (attributions.audio_gate > 0).all()
    middle = selected.reshape(-1, 7, 7)[:, 2:6, 2:5].mean(axis=(1, 2))
    free = ~np.isin(attributions.frames, OCCLUDED_FRAMES)
    assert middle[free].mean() > selected.mean()


def test_silence_and_noise_become_finite_tokens(nano_engine: InferenceEngine) -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ).astype(np.float32)
    for samples in (np.zeros(SAMPLE_RATE_HZ, np.float32), noise, 100 * noise):
        tokens = nano_engine.encode_audio(samples)
        assert tokens.shape[0] == 50
        assert np.isfinite(tokens).all()


def test_an_audio_token_of_nano_depends_on_three_tenths_of_a_second_each_way(
    nano_engine: InferenceEngine,
) -> None:
    """The second of context of a segment is therefore enough for each of its tokens."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE_HZ)).astype(np.float32)
    times_s = (np.arange(100) + 0.5) * 0.02
    for half, distance_s in (
        (slice(SAMPLE_RATE_HZ, None), 1.0 - times_s),
        (slice(SAMPLE_RATE_HZ), times_s - 1.0),
    ):
        silenced = noise.copy()
        silenced[half] = 0.0
        change = np.abs(nano_engine.encode_audio(noise) - nano_engine.encode_audio(silenced)).max(axis=1)
        assert change[distance_s > 0.3].max() < 1e-5
        assert change[(distance_s > 0.2) & (distance_s < 0.3)].max() > 1e-5
