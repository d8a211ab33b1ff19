"""Test that calibration and thresholds are stored in the checkpoint and described in its card."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

import auscan
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.checkpoint_folder import CARD_FILE, WEIGHTS_FILE, read_config, verify_checksums
from auscan.inference.engine import encode_audio_stream
from auscan.inference.load import load_engine
from auscan.inference.score_track import probabilities
from auscan.media.audio import read_waveform
from auscan.media.video import read_frames
from auscan.pipeline.demo import make_demo_clip
from auscan.training.operating_points import fit_calibrated_thresholds
from recipes.nano.calibrate.array_inference import crop_clip, crop_pictures, encode_clip, score_pictures
from recipes.nano.calibrate.calibrate import BEGIN, concatenate, round_calibrated, write_config
from recipes.nano.calibrate.model_card import END, Development, card_text, write_section


@pytest.fixture
def development() -> Development:
    """Make underconfident logits; AU23 is not labelled, and some faces are not found."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (600, 12)).astype(np.float32)
    labels = (random.random((600, 12)) < expit(2 * logits.astype(float) - 1)).astype(np.int8)
    labels[:, 8] = -1
    logits[::50] = np.nan
    return Development(AFFWILD2_AUS, labels, logits, np.arange(600) // 4)


def test_only_calibration_and_thresholds_of_a_checkpoint_change(
    development: Development, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))
    before = read_config(folder)
    calibrated = round_calibrated(fit_calibrated_thresholds(development.labels, development.logits))
    write_config(folder, calibrated)
    after = read_config(folder)
    assert after == before.model_copy(update=vars(calibrated))
    verify_checksums(folder, [WEIGHTS_FILE])
    assert (after.calibration.scale[0], after.calibration.shift[0]) == pytest.approx((2, -1), abs=0.35)
    assert (after.calibration.scale[8], after.thresholds[8]) == (1.0, 0.5)
    assert load_engine(folder).config == after


def test_the_card_has_a_row_for_each_au_and_a_lower_calibration_error_after_calibration(
    development: Development,
) -> None:
    text = card_text(development, fit_calibrated_thresholds(development.labels, development.logits))
    assert "On 588 faces of 150 people" in text
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in text.splitlines()}
    assert [name for name in rows if name in AFFWILD2_AUS] == list(AFFWILD2_AUS)
    assert "not trained" in rows["AU23"]
    assert all(float(rows[name][4]) < float(rows[name][3]) for name in AFFWILD2_AUS if name != "AU23")
    precise, sensitive = rows["precise"], rows["sensitive"]
    assert float(precise[1]) > float(sensitive[1])
    assert float(precise[2]) < float(sensitive[2])


def test_an_au_without_labels_on_real_faces_is_calibrated_on_rendered_faces(
    development: Development,
) -> None:
    labels = np.full((600, 12), -1, np.int8)
    labels[:, 8] = np.arange(600) % 3 == 0
    rendered = Development(AFFWILD2_AUS, labels, development.logits[::-1], development.person, 600)
    both = concatenate(development, rendered)
    assert set(both.person[:600]).isdisjoint(both.person[600:])
    rendered_only, together = (
        fit_calibrated_thresholds(each.labels, each.logits) for each in (development, both)
    )
    assert together.calibration.scale[:8] == rendered_only.calibration.scale[:8]
    assert together.calibration.scale[8] != rendered_only.calibration.scale[8] == 1.0
    text = " ".join(card_text(both, together).split())
    assert "On 588 faces of 150 people" in text
    assert "AU23: on 600 rendered faces of other people" in text


def test_a_section_of_the_card_can_be_replaced_repeatedly(tmp_path: Path) -> None:
    card = tmp_path / CARD_FILE
    card.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    for text in ("one", "two"):
        write_section(card, BEGIN, text)
        assert card.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"
    card.write_text("a card without a generated section")
    with pytest.raises(ValueError, match="no place"):
        write_section(card, BEGIN, "one")


def test_pictures_in_memory_have_the_scores_of_detect(portrait: NDArray[np.uint8], tmp_path: Path) -> None:
    empty, engine = np.full((200, 200, 3), 90, np.uint8), load_engine("nano")
    images = [portrait, empty, np.ascontiguousarray(portrait[:, ::-1])]
    crops = crop_pictures(iter(images), engine.config.network.visual.crop_size)
    predictions = probabilities(score_pictures(engine, crops), engine.config)
    for row, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "picture.png"), image[..., ::-1])
        table = auscan.detect(tmp_path / "picture.png", model=engine).table
        expected = table.nlargest(1, "confidence")[list(AFFWILD2_AUS)].to_numpy()[0]
        np.testing.assert_allclose(predictions[row], expected, atol=1e-4)
    assert np.isnan(predictions[1]).all()


def test_clips_in_memory_have_the_scores_of_detect(tmp_path: Path) -> None:
    clip, engine = tmp_path / "demo.mp4", load_engine("nano")
    make_demo_clip(clip)
    tracks = encode_clip(engine, crop_clip(read_frames(clip), 112))
    waveform = read_waveform(clip)
    assert waveform is not None
    sound = encode_audio_stream(engine, waveform)
    table = auscan.detect(clip, model=engine).table
    assert len(tracks) == table.loc[table["success"] == 1, "face_id"].nunique()
    for face_id, track in tracks.items():
        rows = table[table["face_id"] == face_id]
        predictions = probabilities(track.score(engine, sound), engine.config)
        np.testing.assert_allclose(predictions, rows[list(AFFWILD2_AUS)].to_numpy(), atol=1e-4)
        assert track.frames == rows["frame"].tolist()
        assert np.nanmax(np.abs(probabilities(track.score(engine, None), engine.config) - predictions)) > 1e-3
