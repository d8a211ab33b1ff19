"""Persons: a face mesh that AUs, identity and palette change linearly, and sampled persons who wear it.

Two faces have this form: the built-in one (builtin.py) and ICT-FaceKit's (ict.py). AUs add up, so a person
whose resting face holds some of an AU looks as another does who moves it; only time tells the two apart.

Inputs: a face, a random generator, a length.  Returns: a `Person`; vertices [V, 3] cm, colours [V, 3].
See also: raster.py (drawing), dynamics.py (how intensities move), scene.py (pictures of occluders).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from auscan.datasets.synth.dynamics import CLOCK_HZ, Array, FacialBehaviour, Random, simulate
from auscan.datasets.synth.voice import Speaker

Floats = NDArray[np.float32]

PAINTS: Final[tuple[str, ...]] = (
    *("skin", "lip", "brow", "hair", "sclera", "iris", "pupil", "mouth", "teeth", "cloth"),
)
"""What a vertex may be covered with, in the order of a palette's rows."""

OCCLUDED: Final[float] = 0.75
"""A part counts as covered where its curve is at least this."""

_SKINS: Final = np.array(
    [[246, 214, 190], [233, 188, 160], [214, 163, 128], [184, 128, 94], [141, 91, 64], [92, 59, 44]],
    np.float64,
)

_HAIRS: Final = np.array(
    [[26, 20, 18], [62, 42, 30], [112, 74, 44], [190, 152, 96], [150, 148, 146]], np.float64
)

_IRISES: Final = np.array([[74, 50, 34], [100, 78, 48], [84, 112, 130], [96, 112, 84]], np.float64)


@dataclass(frozen=True, eq=False)
class Face:
    """A mesh and all ways to change it. Lengths in cm, origin between the eyes, face towards +z."""

    neutral: Floats
    """[V, 3]."""
    triangles: NDArray[np.int32]
    """[F, 3], anticlockwise seen from outside."""
    au_deltas: Floats
    """[A, V, 3]: what each AU adds at intensity 1."""
    identity_deltas: Floats
    """[K, V, 3]: directions in which persons differ, each of variance 1 over persons."""
    paint: Floats
    """[V, PAINTS], rows adding to 1."""
    anchors: tuple[NDArray[np.int64], ...]
    """Five lists of vertices whose means are eyes, nose tip and mouth corners, in align.TEMPLATE's order."""

    def shape(self, identity: Floats) -> Floats:
        """A person's mesh [V, 3] at AU intensity 0, for identity [K]."""
        return self.neutral + np.tensordot(identity.astype(np.float32), self.identity_deltas, axes=1)

    def vertices(self, intensities: Floats, shape: Floats) -> Floats:
        """A person's mesh [V, 3] with AU intensities [A] on top of their shape [V, 3]."""
        return shape + np.tensordot(intensities.astype(np.float32), self.au_deltas, axes=1)

    def colours(self, palette: Floats) -> Floats:
        """Colours [V, 3] without light, for a palette [PAINTS, 3] RGB of 0 to 255."""
        return self.paint @ palette.astype(np.float32)

    def points(self, vertices: Floats) -> Floats:
        """Left eye, right eye, nose tip, left and right mouth corner [5, 3]; left has the smaller x."""
        return np.stack([vertices[anchor].mean(axis=0) for anchor in self.anchors])


def quads_to_triangles(quads: NDArray[np.integer]) -> NDArray[np.int32]:
    """Quads [Q, 4] -> triangles [2 Q, 3] of the same winding."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


@dataclass(frozen=True, eq=False)
class PersonTraits:
    """What stays with somebody from one part of a recording to the next."""

    identity: Floats
    palette: Floats
    speaker: Speaker
    glasses: bool
    fringe: bool
    rest_seed: int


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one video."""

    shape: Floats
    """[V, 3] cm: the mesh at AU intensity 0."""
    colours: Floats
    """[V, 3] RGB of 0 to 255, before light."""
    skin: Array
    """[3] RGB, for the hands."""
    hair: Array
    """[3] RGB, for strands."""
    behaviour: FacialBehaviour
    speaker: Speaker
    mouth_occluder: str
    """What comes before the mouth: "hand" or "microphone"."""
    mouth_occlusion: Array
    """[K], 0 away to 1 before the mouth."""
    eye_occlusion: Array
    """[K], 0 away to 1: a hand before the eyes."""
    glasses: bool
    fringe: bool
    """Strands of hair over brows and eyes."""


def sample_traits(random: Random, face: Face) -> PersonTraits:
    """Somebody new."""
    identity = np.clip(random.normal(size=len(face.identity_deltas)), -2.2, 2.2).astype(np.float32)
    return PersonTraits(
        identity=identity,
        palette=_palette(random),
        speaker=Speaker.sample(random),
        glasses=bool(random.random() < 0.2),
        fringe=bool(random.random() < 0.15),
        rest_seed=int(random.integers(2**31)),
    )


def _palette(random: Random) -> Floats:
    """[PAINTS, 3] RGB."""
    position = random.uniform(0, len(_SKINS) - 1)
    low = int(position)
    high = min(low + 1, len(_SKINS) - 1)
    skin = _SKINS[low] + (position - low) * (_SKINS[high] - _SKINS[low]) + random.normal(0, 4, 3)
    hair = random.choice(_HAIRS) * random.uniform(0.8, 1.2)
    lip = skin * [0.86, 0.62, 0.64] + random.uniform(-12, 12, 3)
    iris = random.choice(_IRISES) * random.uniform(0.8, 1.1)
    brow = 0.75 * hair + 0.15 * skin
    rest = ([238, 236, 232], iris, [16, 14, 14], [52, 20, 22], [232, 228, 215], random.uniform(30, 200, 3))
    return np.asarray(np.clip([skin, lip, brow, hair, *rest], 0, 255), np.float32)


def sample_person(
    random: Random, face: Face, traits: PersonTraits, seconds: float, speaks: bool = True
) -> Person:
    """What somebody does in one video; their resting face comes with their looks."""
    behaviour = simulate(random, seconds, np.random.default_rng(traits.rest_seed), speaks)
    ticks = len(behaviour.opening)
    return Person(
        shape=face.shape(traits.identity),
        colours=face.colours(traits.palette),
        skin=np.asarray(traits.palette[PAINTS.index("skin")], np.float64),
        hair=np.asarray(traits.palette[PAINTS.index("hair")], np.float64),
        behaviour=behaviour,
        speaker=traits.speaker,
        mouth_occluder=str(random.choice(["hand", "microphone"])),
        mouth_occlusion=_smooth_transitions(_mouth_occlusion_episodes(random, behaviour)),
        eye_occlusion=_smooth_transitions(_episodes(random, ticks, every_s=45)),
        glasses=traits.glasses,
        fringe=traits.fringe,
    )


def _mouth_occlusion_episodes(random: Random, behaviour: FacialBehaviour) -> Array:
    """[K], 0 or 1: in a third of the talks, and at times in silence, so that neither tells the other."""
    occluded = _episodes(random, len(behaviour.speaking), every_s=30)
    edges = np.flatnonzero(np.diff(np.r_[0, behaviour.speaking.view(np.int8), 0]))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if random.random() < 0.33:
            occluded[start : end + int(random.uniform(-0.5, 1.0) * CLOCK_HZ)] = 1
    return occluded


def _episodes(random: Random, ticks: int, every_s: float) -> Array:
    """[K], 0 or 1: stretches of one to four seconds."""
    occluded, tick = np.zeros(ticks), int(random.exponential(every_s) * CLOCK_HZ)
    while tick < ticks:
        end = tick + int(random.uniform(1, 4) * CLOCK_HZ)
        occluded[tick:end] = 1
        tick = end + int(random.exponential(every_s) * CLOCK_HZ)
    return occluded


def _smooth_transitions(episodes: Array) -> Array:
    """Steps made into movements of about half a second."""
    return np.asarray(gaussian_filter1d(episodes, 0.12 * CLOCK_HZ, mode="nearest"))
