"""Draw the result back onto the video: box and id on each face, bars of the 12 AUs beside the picture.

Why: a person believes a table only after seeing it agree with the face. The bars stand in a panel right of
the picture, so that they never cover a face; faces share the panel, each in its own colour. A face that can
hardly be read has the reason beside its number, and none of its bars is lit.
In: frames with their times, the table, the thresholds [A], the file whose sound is kept.
Out: an H.264 mp4 that browsers play, every frame shown at its own time, or one picture.
Not here: decoding the frames (pipeline/render.py). The sound is decoded here, as it is only carried over.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_MEANINGS, AU_NAMES
from auscan.core.errors import MediaError
from auscan.results.atomic import atomic_path
from auscan.results.table import ACTIVE_COLUMNS, BOX_COLUMNS, frame_durations_s, frame_times_s

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Colour = tuple[int, int, int]

FACE_COLOURS: Final[tuple[Colour, ...]] = (
    *((86, 180, 233), (230, 159, 0), (0, 190, 140)),
    *((240, 228, 66), (224, 140, 190), (235, 110, 50)),
)
"""RGB, told apart by colour-blind people too (after Okabe and Ito); face_id picks one in turn."""

MAX_PANEL_FACES: Final[int] = 4
"""More bars in one row cannot be read; the largest faces of the frame are shown."""

_MIN_HEIGHT: Final[int] = 480  # px, below it the panel's text cannot be read
_MAX_WIDTH, _MAX_HEIGHT = 1920, 1080  # px, beyond it browsers may refuse the video
_BACKGROUND: Final[Colour] = (24, 26, 30)
_GROOVE: Final[Colour] = (52, 56, 63)
_TEXT: Final[Colour] = (240, 240, 240)
_FAINT_TEXT: Final[Colour] = (150, 155, 163)
_FONT: Final[int] = cv2.FONT_HERSHEY_SIMPLEX

_TIME_BASE: Final[Fraction] = Fraction(1, 90_000)  # s, fine enough for any frame rate
_SOUND_RATE_HZ: Final[int] = 48_000
_SOUND_BLOCK: Final[int] = 1024  # samples of one AAC frame


class FrameLike(Protocol):
    """What the overlay needs of a decoded frame."""

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
    sound_source: Path | None,
) -> None:
    """Write the frames with the table drawn on them to `path` (.mp4), with the sound of `sound_source`.

    Raises MediaError where there is no frame or the sound cannot be decoded.
    """
    times = frame_times_s(table)
    faces = _faces_by_frame(table)
    painter: Painter | None = None
    with atomic_path(path) as temporary, _VideoWriter(temporary, times, sound_source) as writer:
        for frame in frames:
            painter = painter or Painter(frame.image.shape[0], frame.image.shape[1], thresholds)
            writer.add(painter.paint(frame.image, faces.get(frame.index, [])), frame.time_s)
        if painter is None:
            raise MediaError(f"There is no frame to draw on, so {path.name} was not written.")


def write_overlay_picture(path: Path, image: Image, table: pd.DataFrame, thresholds: Sequence[float]) -> None:
    """Write one picture with the rows of frame 0 drawn on it to `path` (.png)."""
    painter = Painter(image.shape[0], image.shape[1], thresholds)
    painted = painter.paint(image, _faces_by_frame(table).get(0, []))
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(painted, cv2.COLOR_RGB2BGR))


@dataclass(frozen=True)
class DrawnFace:
    """One face of one frame as the painter needs it."""

    face_id: int
    box: tuple[float, float, float, float]
    """x, y, w, h in pixels of the frame."""
    probabilities: NDArray[np.float32]
    """[A]; NaN is drawn as unknown."""
    active: NDArray[np.bool_]
    """[A] False where the AU is off, unknown or not judged."""
    reason: str = ""
    """Why the face is not judged, empty where it is."""

    @property
    def colour(self) -> Colour:
        """The face's colour, the same in all frames."""
        return FACE_COLOURS[self.face_id % len(FACE_COLOURS)]


class Painter:
    """Paints frames of one video; the layout is fixed by the first frame's size.

    The picture is brought to between 480 and 1080 lines; the panel is as high as the picture.
    """

    def __init__(self, height: int, width: int, thresholds: Sequence[float]) -> None:
        self._thresholds = np.asarray(thresholds, np.float32)
        scale = min(max(1.0, _MIN_HEIGHT / height), _MAX_WIDTH / width, _MAX_HEIGHT / height)
        self._width, self._height = max(2, round(width * scale)), max(2, round(height * scale))
        canvas_height = max(self._height, _MIN_HEIGHT)
        self._unit = canvas_height / _MIN_HEIGHT  # every length of the panel is a multiple of it
        panel_width = round(250 * self._unit)
        self._left = self._width + round(14 * self._unit)  # px, where rows begin
        self._right = self._width + panel_width - round(14 * self._unit)
        self._top = (canvas_height - self._height) // 2
        # yuv420p halves both sides, so both must be even.
        size = (canvas_height + canvas_height % 2, (self._width + panel_width + 1) // 2 * 2, 3)
        self._blank: Image = np.full(size, _BACKGROUND, np.uint8)
        for j, name in enumerate(AU_NAMES):
            self._label(j, name)

    def paint(self, image: Image, faces: Sequence[DrawnFace]) -> Image:
        """[H, W, 3] RGB and its faces -> the canvas, [H', W', 3] RGB with even sides."""
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
        return canvas

    def _px(self, units: float) -> int:
        return max(1, round(units * self._unit))

    def _row_top(self, j: int) -> int:
        return self._px(32 + 37 * j)

    def _groove(self, j: int) -> tuple[int, int]:
        """Top and bottom of the bar of AU j, px."""
        return self._row_top(j) + self._px(18), self._row_top(j) + self._px(31)

    def _text(
        self, canvas: Image, text: str, at: tuple[int, int], colour: Colour, size: float, bold: bool = False
    ) -> int:
        """Write `text` with its baseline at `at`; return its width in px."""
        scale, thickness = size * self._unit, max(1, round(self._unit * (2 if bold else 1)))
        cv2.putText(canvas, text, at, _FONT, scale, colour, thickness, cv2.LINE_AA)
        return int(cv2.getTextSize(text, _FONT, scale, thickness)[0][0])

    def _label(self, j: int, name: str) -> None:
        baseline = self._row_top(j) + self._px(13)
        used = self._text(self._blank, name, (self._left, baseline), _TEXT, 0.42)
        meaning_at = (self._left + used + self._px(7), baseline)
        self._text(self._blank, AU_MEANINGS[name], meaning_at, _FAINT_TEXT, 0.38)
        top, bottom = self._groove(j)
        cv2.rectangle(self._blank, (self._left, top), (self._right, bottom), _GROOVE, cv2.FILLED)

    def _draw_box(self, view: Image, face: DrawnFace, scale: tuple[float, float]) -> None:
        x, y, w, h = face.box
        left, right = round(x * scale[0]), round((x + w) * scale[0])
        top, bottom = round(y * scale[1]), round((y + h) * scale[1])
        thickness = self._px(2)
        cv2.rectangle(view, (left, top), (right, bottom), (0, 0, 0), thickness + 2, cv2.LINE_AA)
        cv2.rectangle(view, (left, top), (right, bottom), face.colour, thickness, cv2.LINE_AA)
        text, size = f"{face.face_id} {face.reason}".strip(), 0.45
        width = cv2.getTextSize(text, _FONT, size * self._unit, self._px(1))[0][0] + self._px(8)
        tag_bottom = max(top, self._px(16))  # a box that leaves the picture keeps its tag
        corner = (max(left, 0), tag_bottom - self._px(16))
        cv2.rectangle(view, corner, (corner[0] + width, tag_bottom), face.colour, cv2.FILLED)
        self._text(view, text, (corner[0] + self._px(4), tag_bottom - self._px(4)), (0, 0, 0), size)

    def _draw_legend(self, canvas: Image, shown: Sequence[DrawnFace], total: int) -> None:
        at, baseline = self._left, self._px(20)
        if not shown:
            self._text(canvas, "no face", (at, baseline), _FAINT_TEXT, 0.42)
            return
        at += self._text(canvas, "face", (at, baseline), _TEXT, 0.42) + self._px(8)
        for face in shown:
            side = self._px(10)
            cv2.rectangle(canvas, (at, baseline - side), (at + side, baseline), face.colour, cv2.FILLED)
            at += side + self._px(4)
            at += self._text(canvas, str(face.face_id), (at, baseline), _TEXT, 0.42) + self._px(10)
        if total > len(shown):
            self._text(canvas, f"and {total - len(shown)} more", (at, baseline), _FAINT_TEXT, 0.38)

    def _draw_bars(self, canvas: Image, face: DrawnFace, row: int, rows: int) -> None:
        """The 12 bars of one face; faces share a groove, one below the other."""
        for j, probability in enumerate(face.probabilities):
            top, bottom = self._groove(j)
            upper = round(top + (bottom - top + 1) * row / rows)
            lower = max(upper, round(top + (bottom - top + 1) * (row + 1) / rows) - 1 - (row < rows - 1))
            if np.isnan(probability):
                if row == 0:
                    self._number(canvas, j, "unknown", _FAINT_TEXT)
                continue
            active = bool(face.active[j])
            dim = tuple(round(0.45 * c + 0.55 * g) for c, g in zip(face.colour, _GROOVE, strict=True))
            end = self._left + round(float(probability) * (self._right - self._left))
            colour = face.colour if active else dim
            cv2.rectangle(canvas, (self._left, upper), (end, lower), colour, cv2.FILLED)
            if rows == 1:
                self._number(canvas, j, f"{probability:.2f}", face.colour if active else _FAINT_TEXT)
            if row == rows - 1:
                self._draw_threshold(canvas, j)

    def _draw_threshold(self, canvas: Image, j: int) -> None:
        top, bottom = self._groove(j)
        at = self._left + round(float(self._thresholds[j]) * (self._right - self._left))
        ends = (at, top - self._px(2)), (at, bottom + self._px(2))
        cv2.line(canvas, *ends, _BACKGROUND, self._px(3))  # a rim, so that it shows on a bright bar too
        cv2.line(canvas, *ends, _TEXT, self._px(1))

    def _number(self, canvas: Image, j: int, text: str, colour: Colour) -> None:
        width = cv2.getTextSize(text, _FONT, 0.4 * self._unit, self._px(1))[0][0]
        self._text(canvas, text, (self._right - width, self._row_top(j) + self._px(13)), colour, 0.4)


def _faces_by_frame(table: pd.DataFrame) -> dict[int, list[DrawnFace]]:
    rows = table[table["success"] == 1]
    boxes = rows[list(BOX_COLUMNS)].to_numpy(float)
    aus = rows[list(AU_NAMES)].to_numpy(np.float32)
    active = rows[list(ACTIVE_COLUMNS)].to_numpy() == 1
    faces: dict[int, list[DrawnFace]] = {}
    columns = (rows["frame"], rows["face_id"], boxes, aus, active, rows["reason"])
    for frame, face_id, *drawn in zip(*columns, strict=True):
        box, au, on, reason = drawn
        faces.setdefault(int(frame), []).append(DrawnFace(int(face_id), tuple(box), au, on, reason))
    return faces


class _VideoWriter:
    """An mp4 with one picture stream and at most one sound stream, both counted from the first frame.

    Sound before the first frame is dropped and missing sound is silent, so both streams begin at 0 and
    no player needs to understand edit lists to keep them together.
    """

    def __init__(self, path: Path, times_s: NDArray[np.float64], sound_source: Path | None) -> None:
        self._path = path
        usual_s = float(np.median(frame_durations_s(times_s))) if len(times_s) > 1 else 0.04
        self._rate = Fraction(1 / max(usual_s, 1e-3)).limit_denominator(1001)
        self._sound_source = sound_source
        self._first_s: float | None = None
        self._last_pts = -1
        self._sound: Iterator[Image] | None = None
        self._sound_at = 0  # samples written so far

    def __enter__(self) -> "_VideoWriter":
        # faststart: the index goes to the front, so that a browser can play before all is loaded.
        self._container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._first_s is not None:
            self._add_sound(until_s=None)
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._container.mux(self._audio.encode(None))
        self._container.close()

    def add(self, image: Image, time_s: float) -> None:
        """Append a picture [H, W, 3] to be shown from `time_s` on, and the sound up to there."""
        if self._first_s is None:
            self._start(image, time_s)
        after_s = time_s - (self._first_s or 0.0)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.time_base = _TIME_BASE
        # Two frames at one time exist in the wild; a player needs them one tick apart.
        self._last_pts = frame.pts = max(round(after_s / _TIME_BASE), self._last_pts + 1)
        self._container.mux(self._video.encode(frame))
        self._add_sound(until_s=after_s)

    def _start(self, image: Image, first_s: float) -> None:
        self._first_s = first_s
        self._video = self._container.add_stream("libx264", rate=self._rate)
        self._video.height, self._video.width = image.shape[:2]
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = self._video.codec_context.time_base = _TIME_BASE
        self._video.options = {"preset": "veryfast", "crf": "21"}
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709, told to the player
        if self._sound_source is not None:
            blocks = _sound_blocks(self._sound_source, first_s)
            block = next(blocks, None)  # a stream without a packet would spoil the file
            if block is not None:
                self._sound = chain([block], blocks)
                self._audio = self._container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="stereo")
                self._audio.bit_rate = 160_000

    def _add_sound(self, until_s: float | None) -> None:
        """Encode sound up to `until_s` after the first frame (None: to its end)."""
        while self._sound is not None and (until_s is None or self._sound_at < until_s * _SOUND_RATE_HZ):
            block = next(self._sound, None)
            if block is None:
                return
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = _SOUND_RATE_HZ, self._sound_at
            frame.time_base = Fraction(1, _SOUND_RATE_HZ)
            self._sound_at += block.shape[1]
            self._container.mux(self._audio.encode(frame))


def _sound_blocks(source: Path, start_s: float) -> Iterator[Any]:
    """The sound of `source` from `start_s` on as float32 stereo [2, 1024] at 48 kHz; gaps are silent."""
    pending = np.zeros((2, 0), np.float32)
    for samples in _without_gaps(source, start_s):
        pending = np.concatenate([pending, samples], axis=1)
        whole = pending.shape[1] // _SOUND_BLOCK * _SOUND_BLOCK
        for at in range(0, whole, _SOUND_BLOCK):
            yield np.ascontiguousarray(pending[:, at : at + _SOUND_BLOCK])
        pending = pending[:, whole:]
    if pending.shape[1]:
        yield np.ascontiguousarray(pending)


def _without_gaps(source: Path, start_s: float) -> Iterator[Any]:
    """Pieces [2, n] of sound that follow each other without a gap or an overlap, the first at `start_s`."""
    done = 0  # samples given out
    for time_s, samples in _decoded_sound(source):
        gap = round((time_s - start_s) * _SOUND_RATE_HZ) - done
        if abs(gap) < _SOUND_RATE_HZ // 50:  # below 20 ms it is rounding of the times, not a gap
            gap = 0
        for at in range(0, gap, _SOUND_RATE_HZ):  # in pieces, as a gap may last for hours
            yield np.zeros((2, min(_SOUND_RATE_HZ, gap - at)), np.float32)
        kept = samples[:, max(0, -gap) :]
        yield kept
        done += max(0, gap) + kept.shape[1]


def _decoded_sound(source: Path) -> Iterator[tuple[float, Any]]:
    """Time in s and samples [2, n] float32 at 48 kHz of the first sound stream, in order."""
    try:
        with av.open(str(source)) as container:
            if not container.streams.audio:
                return
            resampler: Any = None
            form, time_s = None, 0.0
            for decoded in container.decode(audio=0):
                if form != (form := (decoded.sample_rate, decoded.format.name, decoded.layout.name)):
                    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_SOUND_RATE_HZ)
                for frame in resampler.resample(decoded):
                    time_s = float(frame.time) if frame.time is not None else time_s
                    yield time_s, frame.to_ndarray()
                    time_s += frame.samples / _SOUND_RATE_HZ
    except av.FFmpegError as error:
        raise MediaError(
            f"The sound of {source.name} stops decoding ({error}), so it cannot be carried over. "
            f"Re-encode it and try again: ffmpeg -i {source.name} -c:a aac repaired.mp4"
        ) from error
