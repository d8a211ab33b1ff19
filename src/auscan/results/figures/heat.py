"""Draw attention maps and gates over an aligned face crop.

Each patch has one colour, because attention has no finer resolution: the larger its share, the stronger the
colour. A patch with share 0 keeps its pixels. Two bars below show the local gate and the audio gate.

Inputs: a crop [S, S, 3] RGB, one row of Attributions.
Returns: a picture [H, W, 3] RGB.
See also: pipeline/outputs.py (crops), docs/evidence.md (meaning of the numbers).
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS
from auscan.core.environment import chunk_slices
from auscan.results.attributions import Attributions

Image = NDArray[np.uint8]
"""[H, W, 3] RGB."""

COLOUR: Final[tuple[int, int, int]] = (0, 158, 255)
"""RGB; distinct from skin colours, for colour-blind people too."""
MAX_OPACITY: Final[float] = 0.65
"""Opacity of the patch with the largest share; the face must stay visible."""

LEGEND: Final[tuple[str, ...]] = (
    "Blue: attention of the action unit. The",
    "bluest patch has the largest share,",
    "which is printed.",
    "local: weight of the attended patches",
    "beside the whole face.",
    "audio: weight of the audio in the frame,",
    "the same for all action units.",
    "",
    "Shows where the model attended,",
    "not why it decided.",
)
"""Lines of the last tile of a sheet."""

THUMBNAIL: Final[int] = 168
"""Side of the picture of an apex in the report, px."""
VIEW: Final[int] = 280
"""Side of the crop in a tile, px."""
_CAPTION_HEIGHT: Final[int] = 66  # px below the crop, for name and bars
_MARGIN: Final[int] = 8
_COLUMNS: Final[int] = 5
_BACKGROUND: Final[tuple[int, int, int]] = (255, 255, 255)
_TEXT_COLOUR: Final[tuple[int, int, int]] = (30, 30, 30)
_BAR_BACKGROUND: Final[tuple[int, int, int]] = (222, 222, 222)
_FONT: Final[int] = cv2.FONT_HERSHEY_SIMPLEX


def draw_heat(crop: Image, shares: NDArray[np.floating]) -> Image:
    """Return the crop [S, S, 3] with patches coloured by shares [N] in 0..1, given row by row."""
    colour = MAX_OPACITY * _pixels_of_patches(crop.shape[0], shares)[..., None]  # [S, S, 1]
    blended: Image = np.rint(crop * (1 - colour) + np.asarray(COLOUR) * colour).astype(np.uint8)
    return blended


def _pixels_of_patches(side: int, values: NDArray[Any]) -> NDArray[Any]:
    """Return for each pixel the value of its patch, [N] -> [S, S]; patches are given row by row."""
    grid = round(len(values) ** 0.5)
    patch_of_pixel = np.arange(side) * grid // side  # row or column of the patch of each pixel
    pixels: NDArray[Any] = values.reshape(grid, grid)[np.ix_(patch_of_pixel, patch_of_pixel)]
    return pixels


def draw_apex(crop: Image, attributions: Attributions | None, au: str) -> Image:
    """Return a thumbnail of the crop [S, S, 3] with the attention of one AU; other patches are grey and dim.

    attributions: the row of this crop; None: the crop without attention.
    """
    view: Image = cv2.resize(crop, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_CUBIC)
    if attributions is None:
        return view
    attention = attributions.attention[0, attributions.au_names.index(au)]
    grey = cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    unselected = _pixels_of_patches(view.shape[0], attributions.patches[0] == 0)[..., None]  # [S, S, 1]
    dimmed = np.where(unselected, (0.6 * grey).astype(np.uint8), view)
    return draw_heat(dimmed, attention / max(float(attention.max(initial=0.0)), 1e-9))


def draw_au(crop: Image, attributions: Attributions, au: str) -> Image:
    """Return a tile [H, W, 3] with the attention of one AU over the crop [S, S, 3] and both gates.

    attributions: the row of this crop.
    The patch with the largest share has full colour, and that share is printed beside the name.
    """
    j = attributions.au_names.index(au)
    attention, gate, audio_gate = (
        attributions.attention[0, j],
        attributions.gates[0, j],
        attributions.audio_gate[0],
    )
    max_share = float(attention.max(initial=0.0))
    tile = _tile(draw_heat(_enlarged(crop), attention / max(max_share, 1e-9)))
    _draw_caption(tile, f"{au} {ACTION_UNITS[au].meaning}", f"up to {max_share:.0%}")
    _draw_bar(tile, 0, "local", float(gate))
    _draw_bar(tile, 1, "audio", float(audio_gate))
    return tile


def draw_patches(crop: Image, attributions: Attributions) -> Image:
    """Return a tile [H, W, 3] with the weights of the selected patches over the crop [S, S, 3]."""
    weights = attributions.patches[0]
    tile = _tile(draw_heat(_enlarged(crop), weights))
    _draw_caption(tile, "selected patches", f"{np.count_nonzero(weights)} of {len(weights)}")
    return tile


def draw_sheet(crop: Image, attributions: Attributions) -> Image:
    """Return a sheet [H, W, 3] of tiles: the crop [S, S, 3], its patches, each AU, and a legend."""
    crop_tile = _tile(_enlarged(crop))
    _draw_caption(crop_tile, f"frame {attributions.frames[0]}, face {attributions.face_ids[0]}", "")
    aus = (draw_au(crop, attributions, au) for au in attributions.au_names)
    tiles = [crop_tile, draw_patches(crop, attributions), *aus, _legend()]
    rows = [np.hstack(tiles[chunk]) for chunk in chunk_slices(len(tiles), _COLUMNS)]
    return np.vstack(rows)


def _enlarged(crop: Image) -> Image:
    view: Image = cv2.resize(crop, (VIEW, VIEW), interpolation=cv2.INTER_CUBIC)
    return view


def _tile(view: Image) -> Image:
    tile = np.full((VIEW + _CAPTION_HEIGHT + 2 * _MARGIN, VIEW + 2 * _MARGIN, 3), _BACKGROUND, np.uint8)
    tile[_MARGIN : _MARGIN + VIEW, _MARGIN : _MARGIN + VIEW] = view
    return tile


def _legend() -> Image:
    tile = _tile(np.full((VIEW, VIEW, 3), _BACKGROUND, np.uint8))
    for line, text in enumerate(LEGEND):
        cv2.putText(
            tile, text, (_MARGIN, _MARGIN + 24 * (line + 1)), _FONT, 0.42, _TEXT_COLOUR, 1, cv2.LINE_AA
        )
    return tile


def _draw_caption(tile: Image, left: str, right: str) -> None:
    baseline, size = _MARGIN + VIEW + 18, 0.45
    cv2.putText(tile, left, (_MARGIN, baseline), _FONT, size, _TEXT_COLOUR, 1, cv2.LINE_AA)
    width = cv2.getTextSize(right, _FONT, size, 1)[0][0]
    cv2.putText(tile, right, (_MARGIN + VIEW - width, baseline), _FONT, size, _TEXT_COLOUR, 1, cv2.LINE_AA)


def _draw_bar(tile: Image, line: int, name: str, share: float) -> None:
    top = _MARGIN + VIEW + 28 + 19 * line
    left, right = _MARGIN + 48, _MARGIN + VIEW - 44
    cv2.putText(tile, name, (_MARGIN, top + 10), _FONT, 0.4, _TEXT_COLOUR, 1, cv2.LINE_AA)
    cv2.rectangle(tile, (left, top), (right, top + 11), _BAR_BACKGROUND, cv2.FILLED)
    if share > 0:
        cv2.rectangle(tile, (left, top), (left + round(share * (right - left)), top + 11), COLOUR, cv2.FILLED)
    cv2.putText(tile, f"{share:.2f}", (right + 8, top + 10), _FONT, 0.4, _TEXT_COLOUR, 1, cv2.LINE_AA)
