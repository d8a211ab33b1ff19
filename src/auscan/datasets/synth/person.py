"""Define the linear face mesh and sample persons: identity, colours, behaviour and occlusions.

AUs, identity and colours change the mesh linearly. The built-in face (builtin.py) and ICT-FaceKit's face
(ict.py) share this form. Because AUs are additive, a person whose resting face includes an AU looks the same
in one frame as a person who moves that AU; only their behaviour over time differs.

Inputs: a face, a random generator, a length.  Returns: a `Person`; vertices [V, 3] cm, colours [V, 3].
See also: raster.py (drawing), dynamics.py (AU intensities over time), scene.py (occluders).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from auscan.datasets.synth.dynamics import CLOCK_HZ, Array, FacialBehaviour, Random, runs, simulate
from auscan.datasets.synth.plan import USUAL, Conditions
from auscan.datasets.synth.voice import Speaker

Floats = NDArray[np.float32]

PAINTS: Final[tuple[str, ...]] = (
    *("skin", "lip", "brow", "hair", "sclera", "iris", "pupil", "mouth", "teeth", "cloth"),
)
"""Materials of a vertex, in the order of a palette's rows."""

OCCLUDED: Final[float] = 0.75
"""Occlusion, 0 to 1, from which the mouth or the eyes count as covered."""

# Base colours, RGB of 0 to 255.
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
    """Face mesh with linear AUs and identities. Lengths in cm, origin between the eyes, facing +z."""

    neutral: Floats
    """Vertices [V, 3] of the neutral mean face."""
    triangles: NDArray[np.int32]
    """Vertex indices [F, 3], anticlockwise seen from outside."""
    au_deltas: Floats
    """Displacement [A, V, 3] of each of RIG_AUS at intensity 1."""
    identity_deltas: Floats
    """Identity directions [K, V, 3], each of variance 1 over persons."""
    paint: Floats
    """Material weights [V, PAINTS]; rows sum to 1."""
    anchors: tuple[NDArray[np.int64], ...]
    """Five lists of vertices whose means are eyes, nose tip and mouth corners, in align.TEMPLATE's order."""

    def shape(self, identity: Floats) -> Floats:
        """Return a person's mesh [V, 3] at AU intensity 0, for identity coefficients [K]."""
        return self.neutral + np.tensordot(identity.astype(np.float32), self.identity_deltas, axes=1)

    def vertices(self, intensities: Floats, shape: Floats) -> Floats:
        """Return a person's mesh [V, 3] for intensities of the first or all AUs, and a shape [V, 3]."""
        deltas = self.au_deltas[: len(intensities)]
        return shape + np.tensordot(intensities.astype(np.float32), deltas, axes=1)

    def colours(self, palette: Floats) -> Floats:
        """Return unlit colours [V, 3] for a palette [PAINTS, 3], RGB of 0 to 255."""
        return self.paint @ palette.astype(np.float32)

    def points(self, vertices: Floats) -> Floats:
        """Return left and right eye, nose tip, left and right mouth corner [5, 3]; left has the smaller x."""
        return np.stack([vertices[anchor].mean(axis=0) for anchor in self.anchors])


def quads_to_triangles(quads: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return two triangles [2 Q, 3] per quad [Q, 4], with the same winding."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


@dataclass(frozen=True, eq=False)
class PersonTraits:
    """Traits of a person that are constant over the parts of a recording."""

    identity: Floats
    """Identity coefficients [K]."""
    palette: Floats
    """Colours [PAINTS, 3], RGB of 0 to 255."""
    speaker: Speaker
    """Voice."""
    glasses: bool
    """Whether the person wears glasses."""
    fringe: bool
    """Whether hair covers brows and eyes."""
    rest_seed: int
    """Seed of the resting face."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one video."""

    shape: Floats
    """Mesh [V, 3] at AU intensity 0, cm."""
    colours: Floats
    """Unlit colours [V, 3], RGB of 0 to 255."""
    skin: Array
    """Skin colour [3] RGB of the hands."""
    hair: Array
    """Hair colour [3] RGB of the strands."""
    behaviour: FacialBehaviour
    """AU intensities, speech and head pose over time."""
    speaker: Speaker
    """Voice."""
    mouth_occluder: str
    """Object that occludes the mouth: "hand", "microphone" or "card"."""
    mouth_occlusion: Array
    """Position [K] of the occluder, from 0 (away) to 1 (in front of the mouth)."""
    eye_occlusion: Array
    """Position [K] of a hand, from 0 (away) to 1 (in front of the eyes)."""
    blank: NDArray[np.bool_]
    """Mask [K] of times at which a grey area replaces the whole face."""
    own_voice: NDArray[np.bool_]
    """Mask [K], False in utterances in which another person's voice replaces the person's."""
    glasses: bool
    """Whether the person wears glasses."""
    fringe: bool
    """Whether strands of hair hang over brows and eyes."""


def sample_traits(random: Random, face: Face) -> PersonTraits:
    """Sample a new person's traits."""
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
    """Sample a palette [PAINTS, 3], RGB of 0 to 255."""
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
    random: Random,
    face: Face,
    traits: PersonTraits,
    seconds: float,
    speaks: bool = True,
    conditions: Conditions = USUAL,
) -> Person:
    """Sample a person's behaviour and occlusions in one video; the resting face belongs to the traits."""
    # A spawned generator leaves the draws of `random` as they are without the extra AUs.
    extra_random = random.spawn(1)[0] if conditions.all_aus else None
    behaviour = simulate(random, seconds, np.random.default_rng(traits.rest_seed), speaks, extra_random)
    ticks = len(behaviour.opening)
    occluder = str(random.choice(conditions.occluders))
    mouth_episodes = _mouth_occlusion_episodes(random, behaviour, conditions.covered_speech)
    eye_occlusion = _smooth_transitions(_episodes(random, ticks, every_s=45))
    return Person(
        shape=face.shape(traits.identity),
        colours=face.colours(traits.palette),
        skin=np.asarray(traits.palette[PAINTS.index("skin")], np.float64),
        hair=np.asarray(traits.palette[PAINTS.index("hair")], np.float64),
        behaviour=behaviour,
        speaker=traits.speaker,
        mouth_occluder=occluder,
        mouth_occlusion=_smooth_transitions(mouth_episodes),
        eye_occlusion=eye_occlusion,
        blank=_blank_episodes(random, ticks, conditions.blank_every_s),
        own_voice=_own_voice(random, behaviour.speaking, mouth_episodes > 0, conditions.other_voice),
        glasses=traits.glasses,
        fringe=traits.fringe,
    )


def _mouth_occlusion_episodes(random: Random, behaviour: FacialBehaviour, share: float) -> Array:
    """Sample occlusion episodes [K] of 0 or 1, in a share of the utterances.

    Episodes also occur in silence, so that speech cannot be inferred from an occlusion.
    """
    occluded = _episodes(random, len(behaviour.speaking), every_s=30)
    for start, end in runs(behaviour.speaking):
        if random.random() < share:
            occluded[start : end + int(random.uniform(-0.5, 1.0) * CLOCK_HZ)] = 1
    return occluded


def _episodes(random: Random, ticks: int, every_s: float) -> Array:
    """Sample episodes [K] of 0 or 1, each one to four seconds long and `every_s` apart on average."""
    occluded, tick = np.zeros(ticks), int(random.exponential(every_s) * CLOCK_HZ)
    while tick < ticks:
        end = tick + int(random.uniform(1, 4) * CLOCK_HZ)
        occluded[tick:end] = 1
        tick = end + int(random.exponential(every_s) * CLOCK_HZ)
    return occluded


def _blank_episodes(random: Random, ticks: int, every_s: float | None) -> NDArray[np.bool_]:
    """Sample times [K] at which the face is replaced; none if `every_s` is None."""
    if every_s is None:
        return np.zeros(ticks, bool)
    return _episodes(random, ticks, every_s) > 0


def _own_voice(
    random: Random, speaking: NDArray[np.bool_], covered: NDArray[np.bool_], share: float
) -> NDArray[np.bool_]:
    """Sample a mask [K] that is False in a share of the utterances with a covered mouth."""
    own = np.ones(len(speaking), bool)
    if share:
        for start, end in runs(speaking):
            if covered[start:end].mean() > 0.5 and random.random() < share:
                own[start:end] = False
    return own


def _smooth_transitions(episodes: Array) -> Array:
    """Smooth episodes [K] so that each transition lasts about half a second."""
    return np.asarray(gaussian_filter1d(episodes, 0.12 * CLOCK_HZ, mode="nearest"))
