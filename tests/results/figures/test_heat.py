"""Attention maps colour exactly the patches with a share, stronger for larger shares."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.attributions import Attributions
from auscan.results.figures.heat import (
    COLOUR,
    THUMBNAIL,
    VIEW,
    draw_apex,
    draw_au,
    draw_heat,
    draw_patches,
    draw_sheet,
)

SIDE = 112


@pytest.fixture
def crop() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def attributions(gate: int = 255, audio_gate: int = 0) -> Attributions:
    """Return one row of 7 x 7 patches, the first two selected.

    AU01 attends to the first patch only, AU02 to the last.
    """
    patches, attention = np.zeros((1, 49), np.uint8), np.zeros((1, 12, 49), np.uint8)
    patches[0, :2] = 255, 128
    attention[0, 0, 0] = attention[0, 1, 48] = 102
    gates = np.full((1, 12), gate, np.uint8)
    numbers = np.array([7]), np.array([0])
    points = np.zeros((1, 5, 2), np.float32)
    shares = patches, attention, gates, np.array([audio_gate], np.uint8)
    return Attributions(SIDE, AFFWILD2_AUS, *numbers, points, *shares)


def changed(tile: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels that differ, [H, W]."""
    return (tile != other).any(axis=-1)


@pytest.mark.parametrize("grid", [4, 5, 7])
@pytest.mark.parametrize("patch", [0, 3, 15])
def test_a_patch_is_coloured_in_place_and_other_pixels_stay(
    crop: NDArray[np.uint8], grid: int, patch: int
) -> None:
    """Also if the grid does not divide the crop evenly."""
    shares = np.zeros(grid**2)
    shares[patch] = 1.0
    rows, columns = np.nonzero(changed(draw_heat(crop, shares), crop))
    for places, cell in ((rows, patch // grid), (columns, patch % grid)):
        assert places.min() == np.ceil(cell * SIDE / grid)
        assert places.max() == np.ceil((cell + 1) * SIDE / grid) - 1
    cell_px = (SIDE / grid) ** 2
    assert len(rows) > 0.9 * cell_px


def test_a_larger_share_is_nearer_to_the_colour() -> None:
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    shares = np.linspace(0, 1, 49)
    painted = draw_heat(grey, shares)[8::16, 8::16].reshape(49, 3)
    distance = np.linalg.norm(painted - np.array(COLOUR, float), axis=1)
    assert (np.diff(distance) < 0).all()
    assert_array_equal(painted[0], [128] * 3)
    assert 0.2 < distance[-1] / distance[0] < 0.5  # the face under the strongest colour stays visible


def test_at_an_apex_unselected_patches_are_grey_and_dim(crop: NDArray[np.uint8]) -> None:
    plain = draw_apex(crop, None, "AU01")
    assert plain.shape == (THUMBNAIL, THUMBNAIL, 3)
    shown = draw_apex(crop, attributions(), "AU01")
    side = THUMBNAIL // 7
    strongest, selected, unselected = (shown[:side, i * side : (i + 1) * side] for i in range(3))
    toward = [np.linalg.norm(part - np.array(COLOUR, float), axis=2).mean() for part in (strongest, selected)]
    assert toward[0] < 0.6 * toward[1]
    assert_array_equal(selected, plain[:side, side : 2 * side])
    assert np.ptp(unselected.astype(int), axis=2).max() == 0
    assert unselected.mean() < 0.7 * plain[:side, 2 * side : 3 * side].mean()


def test_each_au_shows_the_attention_of_its_own_query(crop: NDArray[np.uint8]) -> None:
    """The patch with the largest share has full colour, even if the share is small."""
    first, last, nothing = (draw_au(crop, attributions(), au) for au in ("AU01", "AU02", "AU26"))
    views = [tile[8 : 8 + VIEW, 8 : 8 + VIEW] for tile in (first, last, nothing)]
    rows, columns = np.nonzero(changed(views[0], views[2]))
    assert (rows.max(), columns.max()) == (VIEW // 7 - 1, VIEW // 7 - 1)
    rows, columns = np.nonzero(changed(views[1], views[2]))
    assert (rows.min(), columns.min()) == (VIEW * 6 // 7, VIEW * 6 // 7)


def test_the_length_of_both_gate_bars_is_proportional_to_the_gates(crop: NDArray[np.uint8]) -> None:
    def blue(gate: int, audio_gate: int) -> int:
        bars = draw_au(crop, attributions(gate, audio_gate), "AU26")[8 + VIEW :]
        return int((bars == COLOUR).all(axis=-1).sum())

    closed, half, full = blue(0, 0), blue(128, 0), blue(255, 0)
    assert closed == 0
    assert 0.45 * full < half < 0.55 * full
    assert blue(0, 255) == full
    assert blue(255, 255) == 2 * full


def test_only_selected_patches_are_coloured_in_the_patch_tile(crop: NDArray[np.uint8]) -> None:
    view = draw_patches(crop, attributions())[8 : 8 + VIEW, 8 : 8 + VIEW]
    plain = draw_au(crop, attributions(), "AU26")[8 : 8 + VIEW, 8 : 8 + VIEW]
    rows, columns = np.nonzero(changed(view, plain))
    assert (rows.max(), columns.max()) == (VIEW // 7 - 1, 2 * VIEW // 7 - 1)


def test_the_sheet_shows_the_crop_the_patches_and_every_au(crop: NDArray[np.uint8]) -> None:
    sheet, tile = draw_sheet(crop, attributions()), draw_au(crop, attributions(), "AU01")
    height, width = tile.shape[:2]
    assert sheet.shape == (3 * height, 5 * width, 3)
    assert_array_equal(sheet[:height, width : 2 * width], draw_patches(crop, attributions()))
    assert_array_equal(sheet[:height, 2 * width : 3 * width], tile)
    assert_array_equal(sheet[2 * height :, 3 * width : 4 * width], draw_au(crop, attributions(), "AU26"))


def test_drawing_does_not_change_the_crop(crop: NDArray[np.uint8]) -> None:
    before = crop.copy()
    draw_sheet(crop, attributions())
    assert_array_equal(crop, before)
