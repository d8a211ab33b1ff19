"""Draw a result onto its video: a box and id on each face, and bars of the 12 AUs in a panel.

The panel is right of the picture, so bars never cover a face. Faces share the panel, each in its own colour.
An unscored face shows the reason beside its id, and its bars are dim. Below the bars are the sound level and
speech.

Inputs: frames with times, the table, thresholds [A], the file with the sound, and its level and speech.
Writes: an H.264 .mp4 in which every frame has its own time, or one picture.
See also: pipeline/outputs.py (decoding), mp4.py (the file).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS, au_columns
from auscan.core.environment import atomic_path
from auscan.core.errors import MediaError
from auscan.results.events import Speech
from auscan.results.figures.mp4 import Mp4Writer
from auscan.results.table import BOX_COLUMNS, active_columns, frame_times_s

Image = NDArray[np.uint8]
"""[H, W, 3] RGB."""
Colour = tuple[int, int, int]
"""RGB."""

FACE_COLOURS: Final[tuple[Colour, ...]] = (
    *((86, 180, 233), (230, 159, 0), (0, 190, 140)),
    *((240, 228, 66), (224, 140, 190), (235, 110, 50)),
)
"""RGB, distinct for colour-blind people too (after Okabe and Ito); a face has index face_id modulo 6."""

MAX_PANEL_FACES: Final[int] = 4
"""Faces with bars, the largest of the frame; more bars in one row would be too thin to read."""

_MIN_HEIGHT: Final[int] = 480  # px; text of a lower panel is illegible
_MAX_WIDTH, _MAX_HEIGHT = 1920, 1080  # px; browsers may refuse larger videos
_BACKGROUND: Final[Colour] = (24, 26, 30)
_BAR_BACKGROUND: Final[Colour] = (52, 56, 63)
_TEXT: Final[Colour] = (240, 240, 240)
_FAINT_TEXT: Final[Colour] = (150, 155, 163)
_SPEECH: Final[Colour] = (120, 210, 170)
_MAX_ROWS: Final[int] = 13  # rows of a column of the panel; 12 AUs and the sound
_SOUND_RANGE_DB: Final[float] = 60.0  # span of the sound bar below full scale
_FONT: Final[int] = cv2.FONT_HERSHEY_SIMPLEX


class FrameLike(Protocol):
    """A decoded frame."""

    @property
    def index(self) -> int:
        """Index of the frame, from 0."""

    @property
    def time_s(self) -> float:
        """Presentation time, seconds."""

    @property
    def image(self) -> Image:
        """[H, W, 3] RGB."""


def write_overlay(
    path: Path,
    frames: Iterable[FrameLike],
    table: pd.DataFrame,
    thresholds: Sequence[float],
    sound_frames: Iterable[Any] | None,
    sound: Speech | None = None,
) -> None:
    """Write the frames with the table drawn on them to `path` (.mp4).

    sound_frames: decoded PyAV frames of the sound (`media.audio.decode_sound`); None: without sound.
    sound: level and speech to draw; None: without sound.
    Raises MediaError if there is no frame.
    """
    times = frame_times_s(table)
    faces = _faces_by_frame(table)
    painter: Painter | None = None
    with atomic_path(path) as temporary, Mp4Writer(temporary, times, sound_frames) as writer:
        for frame in frames:
            height, width = frame.image.shape[:2]
            painter = painter or Painter(height, width, au_columns(table.columns), thresholds)
            levels = None if sound is None else audio_levels_at(sound, frame.time_s)
            writer.add(painter.paint(frame.image, faces.get(frame.index, []), levels), frame.time_s)
        if painter is None:
            raise MediaError(f"There is no frame to draw on, so {path.name} was not written.")


def write_overlay_picture(path: Path, image: Image, table: pd.DataFrame, thresholds: Sequence[float]) -> None:
    """Write one picture with the rows of frame 0 drawn on it to `path` (.png)."""
    painter = Painter(image.shape[0], image.shape[1], au_columns(table.columns), thresholds)
    painted = painter.paint(image, _faces_by_frame(table).get(0, []))
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(painted, cv2.COLOR_RGB2BGR))


@dataclass(frozen=True)
class DrawnFace:
    """One face of one frame, ready to draw."""

    face_id: int
    """Id of the face."""
    box: tuple[float, float, float, float]
    """x, y, w, h in pixels of the frame."""
    probabilities: NDArray[np.float32]
    """[A]; NaN is drawn as unknown."""
    active: NDArray[np.bool_]
    """[A] False if the AU is inactive, unknown or not scored."""
    reason: str = ""
    """Reason of an unscored face; empty if it is scored."""

    @property
    def colour(self) -> Colour:
        """Colour of the face, the same in all frames."""
        return FACE_COLOURS[self.face_id % len(FACE_COLOURS)]


@dataclass(frozen=True)
class AudioLevels:
    """Sound level and speech at the time of a frame."""

    level_db: float
    """Root mean square level, dB of full scale; -inf before and after the sound."""
    speech: bool
    """Whether there is speech of any person."""


def audio_levels_at(sound: Speech, time_s: float) -> AudioLevels:
    """Return the sound level and speech at a time."""
    step = int(np.floor((time_s - sound.start_s) / sound.step_s))
    if not 0 <= step < len(sound.level_db):
        return AudioLevels(-np.inf, False)
    return AudioLevels(float(sound.level_db[step]), bool(sound.speech[step]))


class Painter:
    """Painter of the frames of one video; the size of the first frame determines the layout.

    The picture is scaled to a height of 480 to 1080 px, and the panel has the same height. The panel has a
    row for each AU and one for the sound, in as many columns as they need.
    """

    def __init__(self, height: int, width: int, au_names: Sequence[str], thresholds: Sequence[float]) -> None:
        """thresholds: [A], one for each of au_names."""
        self._sound_row = len(au_names)
        columns = -(-(self._sound_row + 1) // _MAX_ROWS)
        self._rows = -(-(self._sound_row + 1) // columns)
        """Rows of a column."""
        self._thresholds = np.asarray(thresholds, np.float32)
        scale = min(max(1.0, _MIN_HEIGHT / height), _MAX_WIDTH / width, _MAX_HEIGHT / height)
        self._width, self._height = max(2, round(width * scale)), max(2, round(height * scale))
        canvas_height = max(self._height, _MIN_HEIGHT)
        self._unit = canvas_height / _MIN_HEIGHT  # all lengths in the panel are multiples
        self._column_width = round(250 * self._unit)
        panel_width = columns * self._column_width
        self._top = (canvas_height - self._height) // 2
        # Both sides must be even, because yuv420p halves them.
        size = (canvas_height + canvas_height % 2, (self._width + panel_width + 1) // 2 * 2, 3)
        self._blank: Image = np.full(size, _BACKGROUND, np.uint8)
        for j, name in enumerate(au_names):
            self._label(j, name, ACTION_UNITS[name].meaning)
        self._label(self._sound_row, "sound", "level")

    def paint(self, image: Image, faces: Sequence[DrawnFace], levels: AudioLevels | None = None) -> Image:
        """Return the canvas [H', W', 3] RGB, with even sides, for an image [H, W, 3] RGB."""
        canvas = self._blank.copy()
        shrinks = image.shape[0] > self._height
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        view = canvas[self._top : self._top + self._height, : self._width]
        view[:] = cv2.resize(image, (self._width, self._height), interpolation=method)
        scale = (self._width / image.shape[1], self._height / image.shape[0])
        for face in faces:
            self._draw_box(view, face, scale)
        shown = sorted(faces, key=lambda face: -face.box[2] * face.box[3])[:MAX_PANEL_FACES]
        shown = sorted(shown, key=lambda face: face.face_id)
        self._draw_legend(canvas, shown, len(faces))
        for row, face in enumerate(shown):
            self._draw_bars(canvas, face, row, len(shown))
        self._draw_sound(canvas, levels)
        return canvas

    def _px(self, units: float) -> int:
        return max(1, round(units * self._unit))

    def _row_top(self, j: int) -> int:
        return self._px(32 + 34 * (j % self._rows))

    def _row_span(self, j: int) -> tuple[int, int]:
        """Return the left and right end of row j, px."""
        left = self._width + j // self._rows * self._column_width
        margin = round(14 * self._unit)
        return left + margin, left + self._column_width - margin

    def _bar_span(self, j: int) -> tuple[int, int]:
        """Return top and bottom of the bar of AU j, px."""
        return self._row_top(j) + self._px(18), self._row_top(j) + self._px(31)

    def _text(
        self,
        canvas: Image,
        text: str,
        position: tuple[int, int],
        colour: Colour,
        size: float,
        bold: bool = False,
    ) -> int:
        """Write `text` with its baseline at `position`; return its width in px."""
        scale, thickness = size * self._unit, max(1, round(self._unit * (2 if bold else 1)))
        cv2.putText(canvas, text, position, _FONT, scale, colour, thickness, cv2.LINE_AA)
        return int(cv2.getTextSize(text, _FONT, scale, thickness)[0][0])

    def _label(self, j: int, name: str, meaning: str) -> None:
        baseline, (left, right) = self._row_top(j) + self._px(13), self._row_span(j)
        used = self._text(self._blank, name, (left, baseline), _TEXT, 0.42)
        meaning_at = (left + used + self._px(7), baseline)
        self._text(self._blank, meaning, meaning_at, _FAINT_TEXT, 0.38)
        top, bottom = self._bar_span(j)
        cv2.rectangle(self._blank, (left, top), (right, bottom), _BAR_BACKGROUND, cv2.FILLED)

    def _draw_box(self, view: Image, face: DrawnFace, scale: tuple[float, float]) -> None:
        x, y, w, h = face.box
        left, right = round(x * scale[0]), round((x + w) * scale[0])
        top, bottom = round(y * scale[1]), round((y + h) * scale[1])
        thickness = self._px(2)
        cv2.rectangle(view, (left, top), (right, bottom), (0, 0, 0), thickness + 2, cv2.LINE_AA)
        cv2.rectangle(view, (left, top), (right, bottom), face.colour, thickness, cv2.LINE_AA)
        text, size = f"{face.face_id} {face.reason}".strip(), 0.45
        width = cv2.getTextSize(text, _FONT, size * self._unit, self._px(1))[0][0] + self._px(8)
        tag_bottom = max(top, self._px(16))  # keep the tag of a box beyond the upper edge visible
        corner = (max(left, 0), tag_bottom - self._px(16))
        cv2.rectangle(view, corner, (corner[0] + width, tag_bottom), face.colour, cv2.FILLED)
        self._text(view, text, (corner[0] + self._px(4), tag_bottom - self._px(4)), (0, 0, 0), size)

    def _draw_legend(self, canvas: Image, shown: Sequence[DrawnFace], total: int) -> None:
        position, baseline = self._row_span(0)[0], self._px(20)
        if not shown:
            self._text(canvas, "no face", (position, baseline), _FAINT_TEXT, 0.42)
            return
        position += self._text(canvas, "face", (position, baseline), _TEXT, 0.42) + self._px(8)
        for face in shown:
            side = self._px(10)
            cv2.rectangle(
                canvas, (position, baseline - side), (position + side, baseline), face.colour, cv2.FILLED
            )
            position += side + self._px(4)
            position += self._text(canvas, str(face.face_id), (position, baseline), _TEXT, 0.42) + self._px(
                10
            )
        if total > len(shown):
            self._text(canvas, f"and {total - len(shown)} more", (position, baseline), _FAINT_TEXT, 0.38)

    def _draw_bars(self, canvas: Image, face: DrawnFace, row: int, rows: int) -> None:
        """Draw the bars of one face; faces share the height of a bar, one below the other."""
        for j, probability in enumerate(face.probabilities):
            (top, bottom), (left, right) = self._bar_span(j), self._row_span(j)
            upper = round(top + (bottom - top + 1) * row / rows)
            lower = max(upper, round(top + (bottom - top + 1) * (row + 1) / rows) - 1 - (row < rows - 1))
            if np.isnan(probability):
                if row == 0:
                    self._number(canvas, j, "unknown", _FAINT_TEXT)
                continue
            active = bool(face.active[j])
            dim = tuple(round(0.45 * c + 0.55 * g) for c, g in zip(face.colour, _BAR_BACKGROUND, strict=True))
            end = left + round(float(probability) * (right - left))
            colour = face.colour if active else dim
            cv2.rectangle(canvas, (left, upper), (end, lower), colour, cv2.FILLED)
            if rows == 1:
                self._number(canvas, j, f"{probability:.2f}", face.colour if active else _FAINT_TEXT)
            if row == rows - 1:
                self._draw_threshold(canvas, j)

    def _draw_threshold(self, canvas: Image, j: int) -> None:
        (top, bottom), (left, right) = self._bar_span(j), self._row_span(j)
        position = left + round(float(self._thresholds[j]) * (right - left))
        ends = (position, top - self._px(2)), (position, bottom + self._px(2))
        cv2.line(canvas, *ends, _BACKGROUND, self._px(3))  # an outline, visible on a bright bar too
        cv2.line(canvas, *ends, _TEXT, self._px(1))

    def _draw_sound(self, canvas: Image, levels: AudioLevels | None) -> None:
        """Draw the sound level as a bar, green during speech."""
        row = self._sound_row
        if levels is None:
            self._number(canvas, row, "no sound", _FAINT_TEXT)
            return
        (top, bottom), (left, right) = self._bar_span(row), self._row_span(row)
        share = float(np.clip(1 + levels.level_db / _SOUND_RANGE_DB, 0, 1))
        colour = _SPEECH if levels.speech else _FAINT_TEXT
        if share > 0:
            end = left + round(share * (right - left))
            cv2.rectangle(canvas, (left, top), (end, bottom), colour, cv2.FILLED)
        self._number(canvas, row, "speech" if levels.speech else "", colour)

    def _number(self, canvas: Image, j: int, text: str, colour: Colour) -> None:
        width = cv2.getTextSize(text, _FONT, 0.4 * self._unit, self._px(1))[0][0]
        self._text(canvas, text, (self._row_span(j)[1] - width, self._row_top(j) + self._px(13)), colour, 0.4)


def _faces_by_frame(table: pd.DataFrame) -> dict[int, list[DrawnFace]]:
    rows = table[table["success"] == 1]
    boxes = rows[list(BOX_COLUMNS)].to_numpy(float)
    au_names = au_columns(table.columns)
    aus = rows[list(au_names)].to_numpy(np.float32)
    active = rows[active_columns(au_names)].to_numpy() == 1
    faces: dict[int, list[DrawnFace]] = {}
    columns = (rows["frame"], rows["face_id"], boxes, aus, active, rows["reason"])
    for frame, face_id, *drawn in zip(*columns, strict=True):
        box, au, on, reason = drawn
        faces.setdefault(int(frame), []).append(DrawnFace(int(face_id), tuple(box), au, on, reason))
    return faces
