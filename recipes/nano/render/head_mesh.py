"""Load a head mesh that moves: AUs of each side, gaze, jaw, lip shapes.

There are two rigs, each with its own mesh and its own drawing of every AU: ICT-FaceKit ("ict") and the
built-in face of the synthetic benchmark ("builtin"). A network is trained on one and tested on the other to
see what carries over to a rig that it has never seen.

Inputs: the path of an ict_facekit.npz, or nothing. Returns: a `Head`, and meshes [V, 3] in cm.
See also: person_shape.py (shape and AUs of a person), appearance.py (skin, hair), camera_model.py (pictures).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.builtin_aus import EYE_X, MOUTH_Y, hill
from auscan.datasets.synth.dynamics import RIG_AUS
from auscan.datasets.synth.ict import ict_expressions, ict_face
from auscan.datasets.synth.person import PAINTS, Face, Floats
from recipes.nano.data.teacher_labels import NANO_AUS

Random = np.random.Generator
EXTRAS: dict[str, dict[str, float]] = {
    "look_right": {"eyeLookOut_R": 1.0, "eyeLookIn_L": 1.0},
    "look_left": {"eyeLookOut_L": 1.0, "eyeLookIn_R": 1.0},
    "look_up": {"eyeLookUp": 1.0},
    "look_down": {"eyeLookDown": 1.0},
    "pucker": {"mouthPucker": 0.8},
    "funnel": {"mouthFunnel": 0.7},
    "puff": {"cheekPuff": 0.7},
    "jaw_left": {"jawLeft": 0.7},
    "jaw_right": {"jawRight": 0.7},
}
"""Movements other than the AUs, as weights of ARKit's expressions; the built-in face has none of them."""
EXTRA_NAMES = tuple(EXTRAS)
EXPRESSIONS = (
    *("browDown", "browInnerUp", "browOuterUp", "cheekSquint", "cheekRaiser", "eyeBlink", "eyeSquint"),
    *("eyeWide", "jawOpen", "mouthClose", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress"),
    *("mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmile"),
    *("mouthStretch", "mouthUpperUp", "noseSneer"),
)
"""ARKit's expressions of which a person's AUs are made."""
AU_GAINS = {"AU02": 1.15, "AU06": 1.2, "AU07": 1.6, "AU15": 1.25, "AU23": 1.6}
"""Gains of AUs of ICT-FaceKit that are too weak for a small network at the size of a crop."""
_ICT_INNER_LIPS = (5533, 5517)  # vertices in the middle of the upper and the lower lip
_ICT_CHIN = 966  # vertex
_FOREHEAD_CM = 6.3  # height of MediaPipe's topmost landmark above the eyes
_IDENTITIES = 60


@dataclass(frozen=True, eq=False)
class Head:
    """A face mesh with AU and further deltas; lengths in cm, origin between the eyes, face towards +z."""

    face: Face
    """Mesh whose AU deltas [A, V, 3] are those of NANO_AUS."""
    expressions: Floats
    """[E, V, 3]: deltas of EXPRESSIONS; E = 0 for the built-in face."""
    extras: Floats
    """[X, V, 3]: deltas of EXTRAS at intensity 1."""
    relief: Floats
    """[A, V, 3]: wrinkle deltas of each AU."""
    side: Floats
    """[V, 1]: 0 on the picture's left half of a frontal face, 1 on the right, soft between."""
    outline: NDArray[np.int64]
    """[L]: vertices of the front of the face, whose hull is the face region."""
    lid: Floats
    """[V]: 1 on the edges of the lids."""
    inner_lips: tuple[int, int]
    """Vertices in the middle of the upper and of the lower lip."""
    chin: int
    """Vertex of the chin."""

    def vertices(
        self, shape: Floats, au_deltas: Floats, left: Floats, right: Floats, extras: Floats
    ) -> Floats:
        """Return the mesh [V, 3] of a person.

        shape: [V, 3] cm, the face at rest.  au_deltas: [A, V, 3] of the person.
        left, right: AU intensities [A] of each side.  extras: intensities [X] of EXTRAS.
        """
        expression = weighted_sum(left, au_deltas)
        if not np.allclose(left, right):
            expression += self.side * (weighted_sum(right, au_deltas) - expression)
        return np.asarray(shape + expression + weighted_sum(extras, self.extras), np.float32)

    def lip_gap(self, vertices: Floats) -> float:
        """Compute the inner-lip distance over the face height, as the teacher measures AU25."""
        upper, lower = vertices[list(self.inner_lips)]
        top = np.array([0, _FOREHEAD_CM, vertices[self.chin, 2]], np.float32)
        # Pressed lips may intersect in the mesh; their gap is 0.
        return float(max(0.0, upper[1] - lower[1]) / np.linalg.norm(top - vertices[self.chin]))


def load_head(ict: Path | None) -> Head:
    """Load the head from an ict_facekit.npz; None builds the built-in head.

    Raise InputError for another file.
    """
    if ict is None:
        return _builtin_head()
    face = ict_face(ict, _IDENTITIES)
    strength = np.array([AU_GAINS.get(name, 1.0) for name in NANO_AUS], np.float32)[:, None, None]
    face = replace(face, au_deltas=_in_order(face.au_deltas) * strength)
    x, y, z = face.neutral.T
    paint = dict(zip(PAINTS, face.paint.T, strict=True))
    bare = paint["skin"] + paint["lip"] + paint["brow"] > 0.5
    eye = paint["sclera"] + paint["iris"] + paint["pupil"] > 0.5
    off, _ = cKDTree(face.neutral[eye & (z > 8)]).query(face.neutral)
    lid = np.where(bare & (off < 0.16) & (z > 8), np.where(y > 0.15, 1.0, 0.45), 0.0)
    return Head(
        face=face,
        expressions=np.stack([ict_expressions(ict, {name: 1.0}) for name in EXPRESSIONS]),
        extras=np.stack([ict_expressions(ict, weights) for weights in EXTRAS.values()]),
        relief=_wrinkle_deltas(face.neutral, bare) * strength,
        side=_right_half(x),
        outline=_front(face.neutral, bare),
        lid=lid.astype(np.float32),
        inner_lips=_ICT_INNER_LIPS,
        chin=_ICT_CHIN,
    )


def _builtin_head() -> Head:
    """Build the built-in head; its AU deltas contain the wrinkles, and its paint the edges of the lids."""
    face = builtin_face()
    x, y, z = face.neutral.T
    lips = np.flatnonzero((np.abs(x) < 0.05) & (np.abs(y - MOUTH_Y) < 0.02) & (z > 8.2))
    opening = face.au_deltas[RIG_AUS.index("AU25"), lips, 1]
    chin = np.argmin(x**2 + (y + 11) ** 2 + 100 * (z < 5))
    bare = face.paint[:, [PAINTS.index(name) for name in ("skin", "lip", "brow")]].sum(axis=1) > 0.5
    face = replace(face, au_deltas=_in_order(face.au_deltas))
    return Head(
        face=face,
        expressions=np.zeros((0, *face.neutral.shape), np.float32),
        extras=np.zeros((len(EXTRAS), *face.neutral.shape), np.float32),
        relief=np.zeros_like(face.au_deltas),
        side=_right_half(x),
        outline=_front(face.neutral, bare),
        lid=np.zeros(len(x), np.float32),
        inner_lips=(int(lips[opening.argmax()]), int(lips[opening.argmin()])),
        chin=int(chin),
    )


def _in_order(deltas: Floats) -> Floats:
    """Sort AU deltas [A, V, 3] of RIG_AUS into the order of NANO_AUS."""
    return deltas[[RIG_AUS.index(name) for name in NANO_AUS]]


def _right_half(x: Floats) -> Floats:
    return (1 / (1 + np.exp(-4 * x)))[:, None].astype(np.float32)


def _front(neutral: Floats, bare: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the vertices of the front of the face, without neck and hair."""
    _, y, z = neutral.T
    return np.flatnonzero(bare & (z > 3.7) & (y < _FOREHEAD_CM) & (y > -12.5))


def weighted_sum(weights: NDArray[np.floating], deltas: Floats) -> Floats:
    """Sum weights [K] times deltas [K, V, 3]: [V, 3]."""
    flat = np.asarray(weights, np.float32) @ deltas.reshape(len(deltas), -1)
    return np.asarray(flat.reshape(deltas.shape[1:]), np.float32)


def smooth_field(places: Floats, length_cm: float, random: Random, count: int = 6) -> Floats:
    """Draw a smooth random field [V] of mean 0 and variance 1 over places [V, 3]."""
    towards = random.normal(size=(3, count))
    towards *= 2 * np.pi / length_cm / np.linalg.norm(towards, axis=0) * random.uniform(0.7, 1.4, count)
    phases = (places @ towards.astype(np.float32) + random.uniform(0, 2 * np.pi, count)).astype(np.float32)
    return np.asarray(np.cos(phases).sum(axis=1) * np.sqrt(2 / count), np.float32)


def _wrinkle_deltas(neutral: Floats, bare: NDArray[np.bool_]) -> Floats:
    """Return the wrinkles of FACS, which smooth blendshapes lack: [A, V, 3] cm towards the viewer."""
    x, y, z = neutral.T.astype(np.float64)
    forehead = np.cos(2 * np.pi * (y - 4.9) / 1.05)
    along = np.clip((-4.0 - y) / 3.2, 0, 1)
    fold = np.exp(-0.5 * (np.hypot(np.abs(x) - 1.75 - 1.55 * along**0.9, y + 4 + 3.2 * along) / 0.3) ** 2)
    feet = np.cos(7 * np.arctan2(y, np.abs(x) - 4.3))
    high = np.clip(1 + (y + 4.2) / 2.2, 0, 1)
    rises = {
        "AU01": -0.07 * forehead * hill(x, y, 0, 4.9, 2.2, 1.1, 1),
        "AU02": -0.07 * forehead * hill(x, y, 4.0, 4.8, 1.3, 1.0, 1, both=True),
        "AU04": -hill(x, y, 0.75, 2.3, 0.25, 0.9, 0.16, both=True) + hill(x, y, 0, 2.2, 0.35, 0.8, 0.1),
        "AU06": hill(x, y, 4.0, -2.7, 1.5, 0.8, 0.28, both=True)
        - hill(x, y, 3.4, -1.5, 1.6, 0.22, 0.12, both=True)
        - 0.09 * feet * hill(x, y, 6.0, 0.0, 0.7, 1.1, 1, both=True),
        "AU07": hill(x, y, EYE_X, -0.7, 1.2, 0.22, 0.05, both=True),
        "AU10": -0.14 * fold * high + hill(x, y, 2.6, -3.6, 0.7, 0.8, 0.14, both=True),
        "AU12": -0.14 * fold + hill(x, y, 4.0, -4.0, 1.2, 1.1, 0.16, both=True),
        "AU15": hill(x, y, 0, -9.6, 1.1, 0.6, 0.1) - hill(x, y, 3.2, -8.2, 0.3, 0.7, 0.12, both=True),
        "AU09": -0.12 * np.cos(2 * np.pi * (y + 1.2) / 0.6) * hill(x, y, 0, -1.2, 0.8, 0.9, 1)
        + hill(x, y, 1.1, -3.4, 0.4, 0.6, 0.1, both=True),
        "AU14": -hill(x, y, 3.0, -6.9, 0.3, 0.5, 0.2, both=True)
        + hill(x, y, 3.5, -6.9, 0.4, 0.7, 0.12, both=True),
        "AU17": 0.05 * np.cos(2 * np.pi * x / 0.55) * hill(x, y, 0, -9.6, 1.1, 0.8, 1)
        + hill(x, y, 0, -9.4, 1.2, 0.6, 0.16),
        "AU20": -hill(x, y, 3.4, -7.6, 0.25, 0.9, 0.08, both=True),
        "AU23": 0.06 * np.cos(2 * np.pi * x / 0.7) * (hill(x, y, 0, -5.4, 1.3, 0.35, 1)),
        "AU24": hill(x, y, 0, -5.5, 1.6, 0.3, 0.12)
        + hill(x, y, 0, -8.4, 1.6, 0.4, 0.2)
        - hill(x, y, 3.0, -6.9, 0.3, 0.6, 0.12, both=True),
    }
    seen = bare * np.clip((z - 3) / 3, 0, 1)
    found = np.zeros((len(NANO_AUS), len(x), 3), np.float32)
    for name, rise in rises.items():
        found[NANO_AUS.index(name), :, 2] = rise * seen
    return found


@njit(cache=True)
def concavity(vertices: Floats, normals: Floats, triangles: NDArray[np.int32]) -> Floats:
    """Compute the concavity [V] of the mesh at each vertex: 0 if flat, above 0 in folds, below on ridges."""
    total = np.zeros((vertices.shape[0], 3), np.float32)
    count = np.zeros(vertices.shape[0], np.float32)
    length = np.zeros(vertices.shape[0], np.float32)
    for f in range(triangles.shape[0]):
        for k in range(3):
            a, b = triangles[f, k], triangles[f, (k + 1) % 3]
            far = 0.0
            for c in range(3):
                step = vertices[b, c] - vertices[a, c]
                total[a, c] += step
                total[b, c] -= step
                far += step * step
            far = np.sqrt(far)
            length[a] += far
            length[b] += far
            count[a] += 1
            count[b] += 1
    found = np.zeros(vertices.shape[0], np.float32)
    for v in range(vertices.shape[0]):
        if length[v] > 0:
            for c in range(3):
                found[v] += total[v, c] * normals[v, c]
            found[v] *= count[v] / (length[v] * length[v])  # 1 / cm
    return found
