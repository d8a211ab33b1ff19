"""Render clips of speaking and silent people, with audio and exact labels.

    python recipes/nano/render/rendered_clips.py --ict ict_facekit.npz --out runs/nano/rendered_clips

People move, speak (speech_synthesis.py) and are occluded for some spans, mostly over the mouth while
speaking. Faces are tracked and cropped as in `auscan detect`.

Inputs: the path of an ict_facekit.npz, persons.
Returns: `RenderedTrack`s, cached as one .npz for each clip.
See also: rendered_faces.py (stills), occluders.py (occluders on real clips).
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

sys.path.insert(0, str(Path(__file__).parents[3]))  # the repository, for recipes and benchmarks
from auscan.core.config import MAX_INTENSITY
from auscan.datasets.synth.dynamics import (
    CLOCK_HZ,
    RIG_AUS,
    FacialBehaviour,
    simulate,
    smooth_noise,
    ticks_for,
)
from auscan.datasets.synth.person import Floats
from auscan.datasets.synth.voice import mix_audio
from auscan.faces.align import SIDE, crop_face, crop_transform
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import track_faces
from recipes.nano.data.real_clips import MIN_FRAMES, ClipTrack
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.appearance import Appearance, draw_appearance
from recipes.nano.render.camera_model import (
    CameraSetup,
    Picture,
    adjust_exposure,
    apply_camera,
    draw_camera_setup,
    render_head,
)
from recipes.nano.render.expressions import labels_of, soft_targets
from recipes.nano.render.head_mesh import EXTRA_NAMES, Head, Random, load_head
from recipes.nano.render.occluders import (
    KINDS,
    PART_CHOICES,
    PARTS,
    OccluderPath,
    draw_spans,
    parts_covered,
    paste,
    plan_occlusions,
)
from recipes.nano.render.rendered_faces import TEST, TRAIN
from recipes.nano.render.speech_synthesis import SyntheticSpeech, draw_speech, no_speech, synthesize_speech

SECONDS = 10.0
RATES_HZ = (12.5, 15.0, 20.0, 25.0, 25.0, 25.0, 30.0)
_AU25, _AU26 = NANO_AUS.index("AU25"), NANO_AUS.index("AU26")
_SHUT = [NANO_AUS.index(name) for name in ("AU23", "AU24", "AU28")]
_RARE = [NANO_AUS.index(name) for name in ("AU02", "AU15", "AU23", "AU24", "AU26")]
_ORDER = [RIG_AUS.index(name) for name in NANO_AUS]


@dataclass(frozen=True, eq=False)
class RenderedTrack:
    """A tracked face of a rendered clip, with ground truth that training does not use."""

    track: ClipTrack
    hidden: NDArray[np.bool_]
    """[T, 4]: whether each of occluders.PARTS is covered."""
    pose: Floats
    """[T, 3] yaw, pitch, roll in degrees."""
    speaking: NDArray[np.bool_]
    """[T]: whether the person speaks."""


@dataclass(frozen=True, eq=False)
class ClipScene:
    """Movements, speech, occlusions and camera of a clip; `render_frames` renders it."""

    head: Head
    appearance: Appearance
    camera: CameraSetup
    times_s: NDArray[np.float64]
    """[T] seconds."""
    intensities: Floats
    """[T, A], including those of the person's resting face."""
    asymmetry: Floats
    """[A]: relative difference between both sides, -1 to 1."""
    extras: Floats
    """[T, E] intensities of head_mesh.EXTRAS."""
    pose: Floats
    """[T, 3] yaw, pitch, roll in degrees."""
    eye_position: Floats
    """[T, 2]: middle between the eyes, as shares of width and height."""
    occlusions: list[OccluderPath]
    speaking: NDArray[np.bool_]
    """[T]: whether the person speaks."""
    wave: Floats
    """[M] at 16 kHz from 0 s."""
    seed: int
    """Seed of the camera noise."""


@dataclass(frozen=True, eq=False)
class RenderedFrame:
    """One rendered frame; `track_faces` uses `image` and `time_s`."""

    index: int
    image: NDArray[np.uint8]
    """[H, W, 3] RGB."""
    time_s: float
    picture: Picture
    hidden: NDArray[np.bool_]
    """[4]: whether each of occluders.PARTS is covered."""


def draw_clip(head: Head, person: int, seconds: float = SECONDS, mouth: str = "drawn") -> ClipScene:
    """Draw the movements, speech, occlusions and camera of a person's clip.

    mouth: "free" is never occluded, "covered" always, "drawn" for random spans, mostly during speech.
    """
    random = np.random.default_rng([person, 99])
    appearance, ticks = draw_appearance(head, person), ticks_for(seconds)
    speech = (
        draw_speech(random, ticks, random.uniform(0.5, 1.0)) if random.random() < 0.8 else no_speech(ticks)
    )
    behaviour = _simulate(random, seconds, person)
    movement, extras = _draw_movement(random, behaviour, speech, seconds)
    rate = float(random.choice(RATES_HZ))
    times_s = np.arange(int(seconds * rate)) / rate
    disturbance = [None, None, None, None, "voice", "music"][random.integers(6)]
    asymmetry = np.where(random.random(len(NANO_AUS)) < 0.25, random.uniform(-0.4, 0.4, len(NANO_AUS)), 0)
    return ClipScene(
        head=head,
        appearance=appearance,
        camera=adjust_exposure(draw_camera_setup(random, plain=True), appearance),
        times_s=times_s,
        intensities=(behaviour.interpolate(times_s, movement) + appearance.resting_aus).astype(np.float32),
        asymmetry=np.where(np.isin(np.arange(len(NANO_AUS)), [_AU25, _AU26]), 0, asymmetry).astype(
            np.float32
        ),
        extras=behaviour.interpolate(times_s, extras).astype(np.float32),
        pose=behaviour.interpolate(times_s, behaviour.pose).astype(np.float32),
        eye_position=behaviour.interpolate(times_s, _head_positions(random, ticks)).astype(np.float32),
        occlusions=_draw_occlusions(random, times_s, speech, mouth),
        speaking=behaviour.interpolate(times_s, speech.speaking.astype(float)) >= 0.5,
        wave=mix_audio(random, ticks, [synthesize_speech(random, speech)], disturbance),
        seed=int(random.integers(2**31)),
    )


def _simulate(random: Random, seconds: float, person: int) -> FacialBehaviour:
    """Simulate a silent person; movement [K, A] in the order of NANO_AUS."""
    found = simulate(
        random,
        seconds,
        np.random.default_rng(person),
        speaks=False,
        extra_random=np.random.default_rng([person, 2]),
    )
    return replace(found, movement=found.movement[:, _ORDER])


def _draw_movement(
    random: Random, behaviour: FacialBehaviour, speech: SyntheticSpeech, seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw movement [K, A] and extras [K, E] of a person with this speech."""
    movement = behaviour.movement.copy()
    for _ in range(2):  # rare AUs would otherwise be too rare to train on
        extra_movement = _simulate(random, seconds, 0).movement
        movement[:, _RARE] = np.maximum(movement[:, _RARE], extra_movement[:, _RARE])
    if random.random() < 0.65:
        movement[:, _AU25] *= 0.15  # lips part only in speech and with the jaw
    pressed = movement[:, _SHUT].max(axis=1)
    lips_closed = np.clip(4 * (pressed - 0.25), 0, 1) * ~speech.speaking
    movement[:, [_AU25, _AU26]] *= (1 - lips_closed)[:, None]
    speaks = gaussian_filter1d(speech.speaking.astype(float), 8)
    movement[:, [*_SHUT, _AU25, _AU26]] *= (1 - 0.9 * speaks)[:, None]
    movement[:, _AU26] = np.maximum(movement[:, _AU26], speech.jaw)
    movement[:, _AU25] = np.maximum(
        np.maximum(movement[:, _AU25], speech.lip_opening), 0.5 * movement[:, _AU26]
    )
    extras = np.zeros((len(movement), len(EXTRA_NAMES)))
    extras[:, EXTRA_NAMES.index("funnel")] = 0.6 * speech.rounding.clip(0)
    spread = NANO_AUS.index("AU20")
    movement[:, spread] = np.maximum(movement[:, spread], 0.45 * (-speech.rounding).clip(0))
    for one, other in (("look_left", "look_right"), ("look_up", "look_down")):
        gaze = np.round(1.5 * smooth_noise(random, len(movement), 1.5)) / 3  # eyes jump
        extras[:, EXTRA_NAMES.index(one)] = gaze.clip(0, 1)
        extras[:, EXTRA_NAMES.index(other)] = (-gaze).clip(0, 1)
    return movement, extras


def _head_positions(random: Random, ticks: int) -> NDArray[np.float64]:
    """Draw head positions [K, 2]: it sways, and in a fifth of the clips leaves the picture for a while."""
    place = np.array([0.5, 0.44]) + 0.02 * np.stack(
        [smooth_noise(random, ticks, 3.0) for _ in range(2)], axis=1
    )
    if random.random() < 0.2:
        away = np.zeros(ticks)
        start = int(random.uniform(0.2, 0.8) * ticks)
        away[start : start + int(random.uniform(0.6, 2.0) * CLOCK_HZ)] = 1
        place[:, 0] += random.choice([-1.2, 1.2]) * gaussian_filter1d(away, 15)
    return place


def _draw_occlusions(
    random: Random, times_s: NDArray[np.float64], speech: SyntheticSpeech, mouth: str
) -> list[OccluderPath]:
    """Draw occluders during speech, and for random spans of time."""
    last_s = float(times_s[-1])
    if mouth == "covered":
        return plan_occlusions(times_s, random, [(-1.0, last_s + 1)], ("mouth",))
    if mouth == "free":
        return []
    edges = np.flatnonzero(np.diff(np.r_[0, speech.speaking.view(np.int8), 0])) / CLOCK_HZ
    spoken_s = [
        (start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if random.random() < 0.4
    ]
    spans_s = [(start + random.normal(0, 0.4), end + random.normal(0.2, 0.5)) for start, end in spoken_s]
    kinds = tuple(kind for kind in KINDS if kind != "bar")
    return plan_occlusions(times_s, random, [s for s in spans_s if s[1] > s[0] + 0.3], ("mouth",), kinds) + (
        plan_occlusions(times_s, random, draw_spans(random, 0.0, last_s, 0.15), PART_CHOICES)
    )


def render_frames(clip: ClipScene) -> Iterator[RenderedFrame]:
    """Yield the frames of a clip in order. The same scene always gives the same frames."""
    random = np.random.default_rng(clip.seed)
    light = float(np.clip((clip.camera.key_light + clip.camera.ambient).mean(), 0.3, 1.2))
    for index, time_s in enumerate(clip.times_s.tolist()):
        now = clip.intensities[index]
        left, right = now * (1 + clip.asymmetry), now * (1 - clip.asymmetry)
        vertices = clip.head.vertices(
            clip.appearance.shape, clip.appearance.au_deltas, left, right, clip.extras[index]
        )
        pose, at = tuple(clip.pose[index].tolist()), tuple(clip.eye_position[index].tolist())
        picture = render_head(clip.head, clip.appearance, vertices, pose, at, clip.camera)
        image, hidden = picture.image, np.zeros(len(PARTS), np.bool_)
        to_image = np.linalg.inv(np.vstack([crop_transform(picture.points), [0, 0, 1]]))[:2]
        for path in clip.occlusions:
            for row in np.flatnonzero(path.frames == index):
                shift, tilt_deg = path.shifts[row], float(path.tilts_deg[row])
                image, _ = paste(image, path.occluder, shift, tilt_deg, to_image, light)
                crop_mask = paste(np.zeros((SIDE, SIDE), np.uint8), path.occluder, shift, tilt_deg)[1]
                hidden |= np.array(list(parts_covered(crop_mask).values()))
        yield RenderedFrame(index, apply_camera(image, clip.camera, random), time_s, picture, hidden)


def track_clip(clip: ClipScene, name: str) -> list[RenderedTrack]:
    """Detect, track and crop the face as `auscan detect` does. Return its tracks."""
    rows: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {}
    frames: list[RenderedFrame] = []
    for frame, faces in track_faces(render_frames(clip), FaceDetector()):
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        frames.append(frame)
        height = float(np.ptp(frame.picture.outline[:, 1]))
        for face in faces:
            if np.linalg.norm(face.points - frame.picture.points, axis=1).mean() < 0.25 * height:
                rows.setdefault(face.face_id, []).append((frame.index, crop_face(grey, face.points)))
    gaps = np.array([frame.picture.lip_gap for frame in frames])
    labels, soft = labels_of(clip.intensities, gaps), soft_targets(clip.intensities, gaps)
    tracks = []
    for row in rows.values():
        if len(row) < MIN_FRAMES:
            continue
        index = np.array([k for k, _ in row])
        crops = np.stack([crop for _, crop in row])
        track = ClipTrack(
            clip=name,
            person=name,
            crops=crops,
            times_s=clip.times_s[index],
            labels=labels[index],
            soft=soft[index],
            intensities=np.clip(MAX_INTENSITY * clip.intensities[index], 0, MAX_INTENSITY),
            sound=clip.wave,
            sound_start_s=0.0,
        )
        hidden = np.stack([frames[k].hidden for k in index])
        tracks.append(RenderedTrack(track, hidden, clip.pose[index], clip.speaking[index]))
    return tracks


def load_rendered_clips(
    ict: Path, cache_folder: Path, persons: range = TRAIN[-100:], mouth: str = "drawn", workers: int = 2
) -> list[RenderedTrack]:
    """Render one clip a person, except those in the cache folder. Return all tracks."""
    cache_folder.mkdir(parents=True, exist_ok=True)
    missing = [person for person in persons if not _file(cache_folder, person, mouth).exists()]
    if missing:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(_store, repeat(ict), repeat(cache_folder), missing, repeat(mouth)))
    return [track for person in persons for track in _load(_file(cache_folder, person, mouth))]


def _file(folder: Path, person: int, mouth: str) -> Path:
    """Return the cache file of a clip."""
    return folder / f"{person}-{mouth}.npz"


@cache
def _head(ict: Path) -> Head:
    """Load the head once in each process."""
    return load_head(ict)


def _store(ict: Path, folder: Path, person: int, mouth: str) -> None:
    """Render one clip and write its tracks to the cache."""
    cv2.setNumThreads(1)
    stored: dict[str, NDArray[np.generic]] = {}
    clip = draw_clip(_head(ict), person, mouth=mouth)
    for number, found in enumerate(track_clip(clip, f"rendered_{person}")):
        values = found.track.__dict__ | {k: v for k, v in found.__dict__.items() if k != "track"}
        stored |= {f"{number}/{name}": np.asarray(value) for name, value in values.items()}
    file = _file(folder, person, mouth)
    with file.with_suffix(".part").open("wb") as out:
        np.savez_compressed(out, **stored)
    file.with_suffix(".part").replace(file)


def _load(file: Path) -> list[RenderedTrack]:
    """Read the tracks of a clip from the cache."""
    with np.load(file) as stored:
        tracks = []
        for number in sorted({int(name.split("/")[0]) for name in stored.files}):
            fields = {name: stored[f"{number}/{name}"] for name in ClipTrack.__dataclass_fields__}
            fields |= {name: str(fields[name]) for name in ("clip", "person")}
            fields["sound_start_s"] = float(fields["sound_start_s"])
            truth = {name: stored[f"{number}/{name}"] for name in ("hidden", "pose", "speaking")}
            tracks.append(RenderedTrack(ClipTrack(**fields), **truth))
        return tracks


def main() -> None:
    """Parse arguments and render clips of training persons or of test persons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--clips", type=int, default=100, help="number of clips, each of another person")
    parser.add_argument("--test", action="store_true", help="render people reserved for benchmarks")
    parser.add_argument("--mouth", default="drawn", choices=["drawn", "free", "covered"], help="occlusion")
    parser.add_argument("--workers", type=int, default=2, help="parallel processes")
    args = parser.parse_args()
    persons = (TEST if args.test else TRAIN)[-args.clips :]
    tracks = load_rendered_clips(args.ict, args.out, persons, args.mouth, args.workers)
    frames = sum(len(found.track.times_s) for found in tracks)
    print(f"{args.clips} clips, {len(tracks)} tracks, {frames} frames")


if __name__ == "__main__":
    main()
