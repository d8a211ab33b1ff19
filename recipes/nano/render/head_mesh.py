"""Load the ICT-FaceKit head mesh and move it: twelve AUs a side, blinks, gaze, jaw, lip shapes.

Inputs: the path of an ict_facekit.npz. Returns: a `Head`, and meshes [V, 3] in cm.
See also: appearance.py (skin, hair, colours), camera_model.py (pictures).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.synth.builtin_aus import EYE_X, hill
from auscan.datasets.synth.ict import ict_expressions, ict_face
from auscan.datasets.synth.person import PAINTS, Face, Floats

EXTRAS: dict[str, dict[str, float]] = {
    "blink": {"eyeBlink": 1.0},
    "wide": {"eyeWide": 0.8},
    "look_right": {"eyeLookOut_R": 1.0, "eyeLookIn_L": 1.0},
    "look_left": {"eyeLookOut_L": 1.0, "eyeLookIn_R": 1.0},
    "look_up": {"eyeLookUp": 1.0},
    "look_down": {"eyeLookDown": 1.0},
    "pucker": {"mouthPucker": 0.8},
    "funnel": {"mouthFunnel": 0.7},
    "puff": {"cheekPuff": 0.7},
    "jaw_left": {"jawLeft": 0.7},
    "jaw_right": {"jawRight": 0.7},
    "dimple": {"mouthDimple": 0.8},
    "stretch": {"mouthStretch": 0.6},
    "chin": {"mouthShrugLower": 0.6, "mouthShrugUpper": 0.4},
}
"""Movements other than the twelve AUs, as weights of ARKit's expressions."""
EXTRA_NAMES = tuple(EXTRAS)
AU_GAINS = {"AU02": 1.15, "AU06": 1.2, "AU07": 1.6, "AU15": 1.25, "AU23": 1.6}
"""Gains of AUs that are too weak for a small network at the size of a crop."""
_INNER_LIPS = (5533, 5517)  # vertices in the middle of the upper and the lower lip
_CHIN = 966  # vertex
_FOREHEAD_CM = 6.3  # height of MediaPipe's topmost landmark above the eyes
_IDENTITIES = 60


@dataclass(frozen=True, eq=False)
class Head:
    """A face mesh with AU and further deltas; lengths in cm, origin between the eyes, face towards +z."""

    face: Face
    extras: Floats
    """[E, V, 3]: deltas of EXTRAS at intensity 1."""
    relief: Floats
    """[A, V, 3]: wrinkle deltas of each AU."""
    side: Floats
    """[V, 1]: 0 on the picture's left half of a frontal face, 1 on the right, soft between."""
    outline: NDArray[np.int64]
    """[L]: vertices of the front of the face, whose hull is the face region."""
    lid: Floats
    """[V]: 1 on the edges of the lids."""

    def vertices(
        self, shape: Floats, left: Floats, right: Floats, extras: Floats, wrinkle_depth: float = 0.7
    ) -> Floats:
        """Return the mesh [V, 3] of a person.

        shape: [V, 3] cm, the face at rest.  left, right: AU intensities [A] of each side.
        extras: intensities [E] of EXTRAS.  wrinkle_depth: depth of the wrinkles, 0 to about 1.5.
        """
        expression = _sum(left, self.face.au_deltas) + wrinkle_depth * _sum(left, self.relief)
        if not np.allclose(left, right):
            other = _sum(right, self.face.au_deltas) + wrinkle_depth * _sum(right, self.relief)
            expression += self.side * (other - expression)
        return np.asarray(shape + expression + _sum(extras, self.extras), np.float32)

    def lip_gap(self, vertices: Floats) -> float:
        """Compute the inner-lip distance over the face height, as the teacher measures AU25."""
        upper, lower = vertices[list(_INNER_LIPS)]
        top = np.array([0, _FOREHEAD_CM, vertices[_CHIN, 2]], np.float32)
        # Pressed lips may intersect in the mesh; their gap is 0.
        return float(max(0.0, upper[1] - lower[1]) / np.linalg.norm(top - vertices[_CHIN]))


def load_head(path: Path) -> Head:
    """Load the head from an ict_facekit.npz. Raise InputError for another file."""
    face = ict_face(path, _IDENTITIES)
    strength = np.array([AU_GAINS.get(name, 1.0) for name in AFFWILD2_AUS], np.float32)[:, None, None]
    face = replace(face, au_deltas=face.au_deltas[: len(strength)] * strength)
    x, y, z = face.neutral.T
    paint = dict(zip(PAINTS, face.paint.T, strict=True))
    bare = paint["skin"] + paint["lip"] + paint["brow"] > 0.5
    front = np.flatnonzero(bare & (z > 3.5) & (y < _FOREHEAD_CM) & (y > -12.5))
    eye = paint["sclera"] + paint["iris"] + paint["pupil"] > 0.5
    off, _ = cKDTree(face.neutral[eye & (z > 8)]).query(face.neutral)
    lid = np.where(bare & (off < 0.16) & (z > 8), np.where(y > 0.15, 1.0, 0.45), 0.0)
    return Head(
        face=face,
        extras=np.stack([ict_expressions(path, weights) for weights in EXTRAS.values()]),
        relief=_wrinkle_deltas(face.neutral, bare) * strength,
        side=(1 / (1 + np.exp(-4 * x)))[:, None].astype(np.float32),
        outline=front,
        lid=lid.astype(np.float32),
    )


def _sum(weights: Floats, deltas: Floats) -> Floats:
    """Sum weights [K] times deltas [K, V, 3]: [V, 3]."""
    flat = np.asarray(weights, np.float32) @ deltas.reshape(len(deltas), -1)
    return np.asarray(flat.reshape(deltas.shape[1:]), np.float32)


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
        "AU23": 0.06 * np.cos(2 * np.pi * x / 0.7) * (hill(x, y, 0, -5.4, 1.3, 0.35, 1)),
        "AU24": hill(x, y, 0, -5.5, 1.6, 0.3, 0.12)
        + hill(x, y, 0, -8.4, 1.6, 0.4, 0.2)
        - hill(x, y, 3.0, -6.9, 0.3, 0.6, 0.12, both=True),
    }
    seen = bare * np.clip((z - 3) / 3, 0, 1)
    found = np.zeros((len(AFFWILD2_AUS), len(x), 3), np.float32)
    for name, rise in rises.items():
        found[AFFWILD2_AUS.index(name), :, 2] = rise * seen
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
