"""Test which faces of two codings are compared, and that a result agrees with its own events."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscan.core.errors import InputError
from auscan.results.agreement.agree import compute_agreement
from auscan.results.agreement.pairing import pair_faces
from auscan.results.readers.coding import EventCoding, FrameCoding

AUS = ("AU01", "AU12")


def frames(
    face: int, first_s: float, last_s: float, left_px: float | None = None, name: str = "a"
) -> FrameCoding:
    """Code 10 s at 25 frames a second; the face is known from first_s to last_s."""
    times_s = np.arange(250) / 25
    known = (times_s >= first_s) & (times_s < last_s)
    labels = np.where(known[:, None], (np.arange(250) // 20 % 2)[:, None], np.nan).repeat(2, axis=1)
    boxes = None
    if left_px is not None:
        boxes = np.where(known[:, None], [[left_px, 100, 80, 100]], np.nan).astype(np.float32)
    return FrameCoding(
        name=name,
        face=face,
        au_names=AUS,
        frames=np.arange(250),
        times_s=times_s,
        labels=labels.astype(np.float32),
        boxes=boxes,
    )


def events(face: int | None, name: str = "b") -> EventCoding:
    table = pd.DataFrame({"AU": ["AU01", "AU12"], "onset": [1.0, 2.0], "offset": [3.0, 4.0]})
    return EventCoding(name=name, face=face, au_names=AUS, events=table)


def numbers(pair: object) -> tuple[int | None, int | None]:
    return pair.a.face, pair.b.face  # type: ignore[attr-defined]


def test_faces_are_paired_by_place_whatever_their_numbers() -> None:
    a = [frames(0, 0, 10, left_px=100), frames(1, 0, 10, left_px=400)]
    b = [frames(0, 0, 10, left_px=405), frames(1, 0, 6, left_px=110)]
    pair = pair_faces(a, b)
    assert numbers(pair) == (1, 0)
    assert pair.others == ("0 and 1",)
    assert numbers(pair_faces(b, a)) == (0, 1), "the same rule on both sides"


def test_without_places_faces_are_paired_by_number() -> None:
    a = [frames(0, 0, 2), frames(1, 3, 10), frames(2, 0, 10)]
    assert numbers(pair_faces(a, [events(0), events(1)])) == (1, 1)
    assert numbers(pair_faces([events(0), events(1)], a)) == (1, 1)


def test_without_numbers_the_only_face_at_the_time_is_taken() -> None:
    a = [frames(3, 0, 1), frames(7, 2, 10)]
    assert numbers(pair_faces(a, [events(None)])) == (7, None)


def test_two_faces_at_the_same_time_cannot_be_told_apart_without_place_or_number() -> None:
    a = [frames(0, 0, 10), frames(1, 0, 9)]
    with pytest.raises(InputError, match="0 and without a number of a and b fit, and so do 1 and"):
        pair_faces(a, [events(None)])
    assert numbers(pair_faces(a, [events(None)], face_a=1)) == (1, None)
    with pytest.raises(InputError, match=r"a has no face 5\. Its faces: 0, 1"):
        pair_faces(a, [events(None)], face_a=5)


def test_faces_that_are_never_at_one_place_are_refused() -> None:
    a = [frames(0, 0, 10, left_px=100), frames(1, 0, 10, left_px=400)]
    b = [frames(0, 0, 10, left_px=700), frames(1, 0, 10, left_px=900)]
    with pytest.raises(InputError, match="none is at the same place at the same time"):
        pair_faces(a, b)


def test_a_result_with_hysteresis_agrees_with_its_own_events_in_every_frame(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    coding = frames(0, 0, 9)
    own = pd.DataFrame({"AU": ["AU01", "AU12"], "onset": [0.4, 3.0], "offset": [2.2, 8.6]})
    flicker = random.random(coding.labels.shape) < 0.2  # short changes that events bridge
    labels = np.where(flicker, 1 - coding.labels, coding.labels).astype(np.float32)
    result = FrameCoding(
        name="result",
        face=0,
        au_names=AUS,
        frames=coding.frames,
        times_s=coding.times_s,
        labels=labels,
        events=own,
    )
    rounded = own.assign(onset=own["onset"].round(3), offset=own["offset"].round(3))
    export = EventCoding(name="export", face=0, au_names=AUS, events=rounded)
    table = compute_agreement(result, export).table.set_index(["level", "AU"])
    assert table.loc[("frame", "mean"), "units"] == 2 * 225, (
        "frames that the result does not know are left out"
    )
    assert table["kappa"].to_numpy() == pytest.approx(1.0)
