"""Stills of rendered faces with everything known: the benchmark's pictures and the packer's.

    for face in rendered_faces(ict, seed=0, persons=range(100)): ...

Persons from appearance.TEST_SEEDS on are never trained on: take them from `TRAIN` or from `TEST`.

In: the path of an ict_facekit.npz, a seed, persons.  Out: `RenderedFace`s, the same for the same arguments.
Not here: crops and arrays (pack_faces.py), clips (rendered_clips.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appearance import TEST_SEEDS, Appearance, Random, draw_appearance
from auscan.datasets.synth.face import Floats
from auscan.faces.align import SIDE, crop_transform
from expressions import draw_moves, labels_of, mean_intensities, soft_targets
from head import Head, load_head
from occluders import covered_share, parts_covered, paste, somewhere
from photograph import develop, draw_scene, expose, photograph

TRAIN = range(0, TEST_SEEDS // 2)
DEVELOPMENT = range(TEST_SEEDS // 2, TEST_SEEDS)
TEST = range(TEST_SEEDS, 2 * TEST_SEEDS)
"""Persons to learn from, to choose and calibrate by, and to test with; no two ranges share anybody."""

OCCLUDED = 0.25
"""Share of the stills with a thing before the face."""


@dataclass(frozen=True, eq=False)
class RenderedFace:
    """One still and the truth about it."""

    image: NDArray[np.uint8]
    """[H, W, 3] RGB; one face."""
    person: int
    labels: NDArray[np.int8]
    """[A]: 1, 0, or -1 between; also of what is covered."""
    soft: Floats
    """[A]: how clearly, 0 to 1."""
    intensities: Floats
    """[A]: mean of both sides, 0 to about 1.2."""
    points: Floats
    """[5, 2] px."""
    outline: Floats
    """[L, 2] px: its hull is the face."""
    pose: Floats
    """[3]: yaw, pitch, roll in degrees; yaw above 0 turns towards larger x, pitch above 0 looks up."""
    covered: float
    """Share of the face under a thing."""
    parts: dict[str, bool]
    """Which of occluders.PARTS are covered."""
    lightness: float
    """L* of the skin."""
    glasses: str
    """none, clear or dark."""
    lip_gap: float


def rendered_faces(
    ict: Path, seed: int, persons: Iterable[int], pictures: int = 4, occluded: float = OCCLUDED
) -> Iterator[RenderedFace]:
    """So many pictures of each person. The same arguments give the same pictures.

    occluded: share of pictures with a thing before the face.
    """
    head = load_head(ict)
    for person in persons:
        looks = draw_appearance(head, person)
        for number in range(pictures):
            yield one_face(head, looks, person, np.random.default_rng([seed, person, number]), occluded)


def one_face(head: Head, looks: Appearance, person: int, random: Random, occluded: float) -> RenderedFace:
    """One picture of a person."""
    moves, pose, scene = draw_moves(random), draw_pose(random), expose(draw_scene(random), looks)
    left, right = moves.left + looks.rest, moves.right + looks.rest
    vertices = head.vertices(looks.shape, left, right, looks.with_lids(moves.extras), looks.lines)
    at = (float(random.uniform(0.42, 0.58)), float(random.uniform(0.38, 0.5)))
    picture = photograph(head, looks, vertices, pose, at, scene)
    image, hidden = picture.image, np.zeros(picture.image.shape[:2], np.bool_)
    parts = parts_covered(np.zeros((SIDE, SIDE), np.bool_))
    if random.random() < occluded:
        thing, shift = somewhere(random)
        transform = crop_transform(picture.points)
        to_image = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))[:2]
        light = float(np.clip((scene.key + scene.around).mean(), 0.3, 1.2))
        image, hidden = paste(image, thing, shift, 0.0, to_image, light)
        bare = np.zeros((SIDE, SIDE), np.uint8)
        parts = parts_covered(paste(bare, thing, shift)[1])
    if looks.glasses == "dark":
        parts["eyes"] = True
    intensities = mean_intensities(moves, looks.rest)
    return RenderedFace(
        image=develop(image, scene, random),
        person=person,
        labels=labels_of(intensities, picture.lip_gap),
        soft=soft_targets(intensities, picture.lip_gap),
        intensities=intensities,
        points=picture.points,
        outline=picture.outline,
        pose=np.array(pose, np.float32),
        covered=covered_share(hidden, picture.outline) if hidden.any() else 0.0,
        parts=parts,
        lightness=looks.lightness,
        glasses=looks.glasses,
        lip_gap=picture.lip_gap,
    )


def draw_pose(random: Random) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees: half of the heads look about into the camera, half anywhere."""
    if random.random() < 0.5:
        yaw, pitch = random.normal(0, 14), random.normal(0, 9)
    else:
        yaw, pitch = random.uniform(-65, 65), random.uniform(-33, 33)
    return float(np.clip(yaw, -65, 65)), float(np.clip(pitch, -33, 33)), float(random.normal(0, 8))
