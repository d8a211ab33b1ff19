"""Draw over a crop what the network went by: where an action unit's query looked, how far it was trusted.

Each patch is coloured as a whole, since the numbers know no finer place; the stronger, the more colour. A
patch without a share keeps its pixels. Below stand two bars: how far the local reading is taken in, and how
far the voice is.

In: a crop, a row of Evidence.  Out: a picture.
Not here: cutting the crop (pipeline/outputs.py), what the numbers mean (docs/evidence.md).
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_MEANINGS, AU_NAMES
from auscan.core.chunking import chunk_slices
from auscan.results.attributions import Attributions

Image = NDArray[np.uint8]  # [H, W, 3] RGB

COLOUR: Final[tuple[int, int, int]] = (0, 158, 255)
"""RGB; far from every skin, for colour-blind people too."""
MAX_OPACITY: Final[float] = 0.65
"""Share of the colour in the strongest patch; the face must stay visible."""

LEGEND: Final[tuple[str, ...]] = (
    "The bluer a patch, the more of it was",
    "read for the action unit; the bluest is",
    "the strongest, its share is printed.",
    "local: how far that reading is taken in",
    "beside the face as a whole.",
    "voice: how far the frame takes the",
    "sound in, the same for all.",
    "",
    "Where was looked, not why it was said.",
)

THUMBNAIL: Final[int] = 168
"""Side of the small picture of an apex, px."""
VIEW: Final[int] = 280
"""Side of the crop in a tile, px."""
_CAPTION_HEIGHT: Final[int] = 66  # px below it, for the words
_MARGIN: Final[int] = 8
_COLUMNS: Final[int] = 5
_BACKGROUND: Final[tuple[int, int, int]] = (255, 255, 255)
_TEXT_COLOUR: Final[tuple[int, int, int]] = (30, 30, 30)
_BAR_BACKGROUND: Final[tuple[int, int, int]] = (222, 222, 222)
_FONT: Final[int] = cv2.FONT_HERSHEY_SIMPLEX


def draw_heat(crop: Image, shares: NDArray[np.floating]) -> Image:
    """A crop [S, S, 3], its patches coloured by shares [N] in 0..1, row by row; those of 0 as they are."""
    colour = MAX_OPACITY * _pixels_of_patches(crop.shape[0], shares)[..., None]  # [S, S, 1]
    blended: Image = np.rint(crop * (1 - colour) + np.asarray(COLOUR) * colour).astype(np.uint8)
    return blended


def _pixels_of_patches(side: int, values: NDArray[Any]) -> NDArray[Any]:
    """Values [N] of patches, row by row, as [S, S]: each pixel has that of its patch."""
    grid = round(len(values) ** 0.5)
    patch_of_pixel = np.arange(side) * grid // side  # which row or column of patches a pixel is in
    pixels: NDArray[Any] = values.reshape(grid, grid)[np.ix_(patch_of_pixel, patch_of_pixel)]
    return pixels


def draw_apex(crop: Image, attributions: Attributions | None, au: str) -> Image:
    """A small picture for a page: the crop [S, S, 3] with one AU's attention, unread patches grey and dim.

    attributions: one row, the crop's; None: the crop as it is.
    """
    view: Image = cv2.resize(crop, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_CUBIC)
    if attributions is None:
        return view
    attention = attributions.attention[0, AU_NAMES.index(au)]
    grey = cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    unread = _pixels_of_patches(view.shape[0], attributions.patches[0] == 0)[..., None]  # [S, S, 1]
    dimmed = np.where(unread, (0.6 * grey).astype(np.uint8), view)
    return draw_heat(dimmed, attention / max(float(attention.max(initial=0.0)), 1e-9))


def draw_au(crop: Image, attributions: Attributions, au: str) -> Image:
    """Where one AU's query looked in a crop [S, S, 3], with both gates: a tile [H, W, 3].

    attributions: one row, the crop's.
    The strongest patch has full colour, and its share stands beside the name.
    """
    j = AU_NAMES.index(au)
    attention, gate, audio_gate = (
        attributions.attention[0, j],
        attributions.gates[0, j],
        attributions.audio_gate[0],
    )
    max_share = float(attention.max(initial=0.0))
    tile = _tile(draw_heat(_enlarged(crop), attention / max(max_share, 1e-9)))
    _draw_caption(tile, f"{au} {AU_MEANINGS[au]}", f"up to {max_share:.0%}")
    _draw_bar(tile, 0, "local", float(gate))
    _draw_bar(tile, 1, "voice", float(audio_gate))
    return tile


def draw_patches(crop: Image, attributions: Attributions) -> Image:
    """Which patches of a crop [S, S, 3] were read at all, and how gladly: a tile [H, W, 3].  One row."""
    weights = attributions.patches[0]
    tile = _tile(draw_heat(_enlarged(crop), weights))
    _draw_caption(tile, "patches that were read", f"{np.count_nonzero(weights)} of {len(weights)}")
    return tile


def draw_sheet(crop: Image, attributions: Attributions) -> Image:
    """The crop [S, S, 3], its patches, a tile for each AU, and what all this means: [H, W, 3].  One row."""
    crop_tile = _tile(_enlarged(crop))
    _draw_caption(crop_tile, f"frame {attributions.frames[0]}, face {attributions.face_ids[0]}", "")
    aus = (draw_au(crop, attributions, au) for au in AU_NAMES)
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
