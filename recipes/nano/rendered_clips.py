"""Rendered clips of talking and silent people, with sound and everything known.

A person moves, talks (talk.py) and is covered for a while; the frames are followed and cut as the product
does. The mouth is often covered while its owner speaks, since that is when listening pays.

    python recipes/nano/rendered_clips.py --ict ../shared/data/ict_facekit.npz --out runs/nano/rendered

In: the path of an ict_facekit.npz, persons.  Out: `RenderedTrack`s, kept as one .npz a clip.
Not here: stills (rendered_faces.py), covers on real clips (cover_clips.py).
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from appearance import Appearance, Random, draw_appearance
from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.datasets.synth.dynamics import CLOCK_HZ, Performance, perform, smooth_noise, ticks_for
from auscan.datasets.synth.face import Floats
from auscan.datasets.synth.voice import mix
from auscan.faces.align import SIDE, crop_face, crop_transform
from auscan.faces.detector import FaceDetector
from auscan.faces.follow import follow_faces
from clip_data import SHORTEST, ClipTrack
from cover_clips import PLAN, Passing, draw_spans, plan_covers
from expressions import labels_of, soft_targets
from head import EXTRA_NAMES, Head, load_head
from occluders import KINDS, PARTS, parts_covered, paste
from photograph import Picture, Scene, develop, draw_scene, expose, photograph
from rendered_faces import TEST, TRAIN
from talk import Talk, draw_talk, silence, speak_talk

SECONDS = 10.0
RATES_HZ = (12.5, 15.0, 20.0, 25.0, 25.0, 25.0, 30.0)
_AU25, _AU26 = AU_NAMES.index("AU25"), AU_NAMES.index("AU26")
_SHUT = [AU_NAMES.index(name) for name in ("AU23", "AU24")]
_RARE = [AU_NAMES.index(name) for name in ("AU02", "AU15", "AU23", "AU24", "AU26")]


@dataclass(frozen=True, eq=False)
class RenderedTrack:
    """A followed face of a rendered clip, and what training does not see."""

    track: ClipTrack
    hidden: NDArray[np.bool_]
    """[T, 4]: is the part covered, in the order of occluders.PARTS?"""
    pose: Floats
    """[T, 3] yaw, pitch, roll in degrees."""
    speaking: NDArray[np.bool_]
    """[T]."""


@dataclass(frozen=True, eq=False)
class Film:
    """A clip before it is shot; the frames come one by one from `shoot`."""

    head: Head
    looks: Appearance
    scene: Scene
    times_s: NDArray[np.float64]
    """[T]."""
    intensities: Floats
    """[T, A], the traces of the person's resting face included."""
    lean: Floats
    """[A]: how much stronger AUs are on one side, -1 to 1."""
    extras: Floats
    """[T, E]."""
    pose: Floats
    """[T, 3]."""
    at: Floats
    """[T, 2]: where the eyes are, as shares of width and height."""
    covers: list[Passing]
    speaking: NDArray[np.bool_]
    """[T]."""
    wave: Floats
    """[M] at 16 kHz from 0 s."""
    seed: int


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of a film; `image` and `time_s` are what follow_faces asks for."""

    index: int
    image: NDArray[np.uint8]
    """[H, W, 3] RGB."""
    time_s: float
    picture: Picture
    hidden: NDArray[np.bool_]
    """[4] of occluders.PARTS."""


def draw_film(head: Head, person: int, seconds: float = SECONDS, mouth: str = "drawn") -> Film:
    """What happens in the clip of a person.

    mouth: "free" never has a thing before it, "covered" always, "drawn" for spans and through many talks.
    """
    random = np.random.default_rng([person, 99])
    looks, ticks = draw_appearance(head, person), ticks_for(seconds)
    talk = draw_talk(random, ticks, random.uniform(0.5, 1.0)) if random.random() < 0.8 else silence(ticks)
    acts = perform(random, seconds, np.random.default_rng(person), speaks=False)
    movement, extras = _move(random, acts, talk, seconds)
    rate = float(random.choice(RATES_HZ))
    times_s = np.arange(int(seconds * rate)) / rate
    disturbance = [None, None, None, None, "voice", "music"][random.integers(6)]
    lean = np.where(random.random(AU_COUNT) < 0.25, random.uniform(-0.4, 0.4, AU_COUNT), 0)
    return Film(
        head=head,
        looks=looks,
        scene=expose(draw_scene(random, plain=True), looks),
        times_s=times_s,
        intensities=(acts.at(times_s, movement) + looks.rest).astype(np.float32),
        lean=np.where(np.isin(np.arange(AU_COUNT), [_AU25, _AU26]), 0, lean).astype(np.float32),
        extras=acts.at(times_s, extras).astype(np.float32),
        pose=acts.at(times_s, acts.pose).astype(np.float32),
        at=acts.at(times_s, _places(random, ticks)).astype(np.float32),
        covers=_covers(random, times_s, talk, mouth),
        speaking=acts.at(times_s, talk.speaking.astype(float)) >= 0.5,
        wave=mix(random, ticks, [speak_talk(random, talk)], disturbance),
        seed=int(random.integers(2**31)),
    )


def _move(
    random: Random, acts: Performance, talk: Talk, seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Movement [K, A] and extras [K, E] of a person who does this talk."""
    movement = acts.movement.copy()
    for _ in range(2):  # what is rare in life must be seen often enough to be learned
        more = perform(random, seconds, np.random.default_rng(0), speaks=False).movement
        movement[:, _RARE] = np.maximum(movement[:, _RARE], more[:, _RARE])
    if random.random() < 0.65:
        movement[:, _AU25] *= 0.15  # these lips part for words and with the jaw alone
    pressed = movement[:, _SHUT].max(axis=1)
    shut = np.clip(4 * (pressed - 0.25), 0, 1) * ~talk.speaking
    movement[:, [_AU25, _AU26]] *= (1 - shut)[:, None]
    speaks = gaussian_filter1d(talk.speaking.astype(float), 8)
    movement[:, [*_SHUT, _AU25, _AU26]] *= (1 - 0.9 * speaks)[:, None]
    movement[:, _AU26] = np.maximum(movement[:, _AU26], talk.jaw)
    movement[:, _AU25] = np.maximum(np.maximum(movement[:, _AU25], talk.apart), 0.5 * movement[:, _AU26])
    extras = np.zeros((len(movement), len(EXTRA_NAMES)))
    extras[:, EXTRA_NAMES.index("funnel")] = 0.6 * talk.rounded.clip(0)
    extras[:, EXTRA_NAMES.index("stretch")] = 0.6 * (-talk.rounded).clip(0)
    for one, other in (("look_left", "look_right"), ("look_up", "look_down")):
        gaze = np.round(1.5 * smooth_noise(random, len(movement), 1.5)) / 3  # eyes jump
        extras[:, EXTRA_NAMES.index(one)] = gaze.clip(0, 1)
        extras[:, EXTRA_NAMES.index(other)] = (-gaze).clip(0, 1)
    blinks = random.random(len(movement)) < 0.3 / CLOCK_HZ
    extras[:, EXTRA_NAMES.index("blink")] = np.clip(gaussian_filter1d(blinks.astype(float), 5) * 14, 0, 1)
    return movement, extras


def _places(random: Random, ticks: int) -> NDArray[np.float64]:
    """[K, 2]: the head sways; in a fifth of the clips it leaves the picture for a while and comes back."""
    place = np.array([0.5, 0.44]) + 0.02 * np.stack(
        [smooth_noise(random, ticks, 3.0) for _ in range(2)], axis=1
    )
    if random.random() < 0.2:
        away = np.zeros(ticks)
        start = int(random.uniform(0.2, 0.8) * ticks)
        away[start : start + int(random.uniform(0.6, 2.0) * CLOCK_HZ)] = 1
        place[:, 0] += random.choice([-1.2, 1.2]) * gaussian_filter1d(away, 15)
    return place


def _covers(random: Random, times_s: NDArray[np.float64], talk: Talk, mouth: str) -> list[Passing]:
    """Things before the face: through talks, and for spans of time."""
    last_s = float(times_s[-1])
    if mouth == "covered":
        return plan_covers(times_s, random, [(-1.0, last_s + 1)], ("mouth",))
    if mouth == "free":
        return []
    edges = np.flatnonzero(np.diff(np.r_[0, talk.speaking.view(np.int8), 0])) / CLOCK_HZ
    talks = [
        (start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if random.random() < 0.4
    ]
    stretched = [(start + random.normal(0, 0.4), end + random.normal(0.2, 0.5)) for start, end in talks]
    hands = tuple(kind for kind in KINDS if kind != "bar")
    return plan_covers(times_s, random, [s for s in stretched if s[1] > s[0] + 0.3], ("mouth",), hands) + (
        plan_covers(times_s, random, draw_spans(random, 0.0, last_s, 0.15), PLAN)
    )


def shoot(film: Film) -> Iterator[Shot]:
    """The frames of a film in order; the same film gives the same frames."""
    random = np.random.default_rng(film.seed)
    light = float(np.clip((film.scene.key + film.scene.around).mean(), 0.3, 1.2))
    for index, time_s in enumerate(film.times_s.tolist()):
        now = film.intensities[index]
        left, right = now * (1 + film.lean), now * (1 - film.lean)
        extras = film.looks.with_lids(film.extras[index])
        vertices = film.head.vertices(film.looks.shape, left, right, extras, film.looks.lines)
        pose, at = tuple(film.pose[index].tolist()), tuple(film.at[index].tolist())
        picture = photograph(film.head, film.looks, vertices, pose, at, film.scene)
        image, hidden = picture.image, np.zeros(len(PARTS), np.bool_)
        to_image = np.linalg.inv(np.vstack([crop_transform(picture.points), [0, 0, 1]]))[:2]
        for passing in film.covers:
            for row in np.flatnonzero(passing.frames == index):
                shift, lean = passing.shifts[row], float(passing.leans[row])
                image, _ = paste(image, passing.thing, shift, lean, to_image, light)
                in_crop = paste(np.zeros((SIDE, SIDE), np.uint8), passing.thing, shift, lean)[1]
                hidden |= np.array(list(parts_covered(in_crop).values()))
        yield Shot(index, develop(image, film.scene, random), time_s, picture, hidden)


def follow_film(film: Film, name: str) -> list[RenderedTrack]:
    """The tracks of a film's face as the product follows and cuts it."""
    rows: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {}
    shots: list[Shot] = []
    for shot, faces in follow_faces(shoot(film), FaceDetector()):
        grey = cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY)
        shots.append(shot)
        height = float(np.ptp(shot.picture.outline[:, 1]))
        for face in faces:
            if np.linalg.norm(face.points - shot.picture.points, axis=1).mean() < 0.25 * height:
                rows.setdefault(face.face_id, []).append((shot.index, crop_face(grey, face.points)))
    gaps = np.array([shot.picture.lip_gap for shot in shots])
    labels, soft = labels_of(film.intensities, gaps), soft_targets(film.intensities, gaps)
    tracks = []
    for row in rows.values():
        if len(row) < SHORTEST:
            continue
        index = np.array([k for k, _ in row])
        crops = np.stack([crop for _, crop in row])
        track = ClipTrack(name, crops, film.times_s[index], labels[index], soft[index], film.wave, 0.0)
        hidden = np.stack([shots[k].hidden for k in index])
        tracks.append(RenderedTrack(track, hidden, film.pose[index], film.speaking[index]))
    return tracks


def load_rendered_clips(
    ict: Path, cache_folder: Path, persons: range = TRAIN[-100:], mouth: str = "drawn", workers: int = 2
) -> list[RenderedTrack]:
    """The tracks of one clip a person; what is in the folder already is read from there."""
    cache_folder.mkdir(parents=True, exist_ok=True)
    missing = [person for person in persons if not _file(cache_folder, person, mouth).exists()]
    if missing:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(_store, repeat(ict), repeat(cache_folder), missing, repeat(mouth)))
    return [track for person in persons for track in _load(_file(cache_folder, person, mouth))]


def _file(folder: Path, person: int, mouth: str) -> Path:
    return folder / f"{person}-{mouth}.npz"


@cache
def _head(ict: Path) -> Head:
    return load_head(ict)


def _store(ict: Path, folder: Path, person: int, mouth: str) -> None:
    """Make one clip and keep its tracks."""
    cv2.setNumThreads(1)
    stored: dict[str, NDArray[np.generic]] = {}
    film = draw_film(_head(ict), person, mouth=mouth)
    for number, found in enumerate(follow_film(film, f"rendered_{person}")):
        values = found.track.__dict__ | {k: v for k, v in found.__dict__.items() if k != "track"}
        stored |= {f"{number}/{name}": np.asarray(value) for name, value in values.items()}
    file = _file(folder, person, mouth)
    with file.with_suffix(".part").open("wb") as out:
        np.savez_compressed(out, **stored)
    file.with_suffix(".part").replace(file)


def _load(file: Path) -> list[RenderedTrack]:
    with np.load(file) as stored:
        tracks = []
        for number in sorted({int(name.split("/")[0]) for name in stored.files}):
            fields = {name: stored[f"{number}/{name}"] for name in ClipTrack.__dataclass_fields__}
            fields["clip"], fields["sound_start_s"] = str(fields["clip"]), float(fields["sound_start_s"])
            rest = {name: stored[f"{number}/{name}"] for name in ("hidden", "pose", "speaking")}
            tracks.append(RenderedTrack(ClipTrack(**fields), **rest))
        return tracks


def main() -> None:
    """Read the command line and make the clips of training persons, or of test persons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--test", action="store_true", help="persons kept for tests")
    parser.add_argument("--mouth", default="drawn", choices=["drawn", "free", "covered"])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    persons = (TEST if args.test else TRAIN)[-args.clips :]
    tracks = load_rendered_clips(args.ict, args.out, persons, args.mouth, args.workers)
    frames = sum(len(found.track.times_s) for found in tracks)
    print(f"{args.clips} clips, {len(tracks)} tracks, {frames} frames")


if __name__ == "__main__":
    main()
