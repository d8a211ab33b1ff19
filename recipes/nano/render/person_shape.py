"""Draw the shape of one person and how that person's AUs look.

A network that sees one artist's drawing of an AU learns the drawing. So each person has AUs of their own:
ARKit's expressions in other proportions, with related expressions mixed in, stronger here and weaker there,
with and without wrinkles. Their largest displacement stays near that of the rig, so that an intensity means
about the same on everyone. Shapes go far beyond the identity modes: sizes of features, smooth warps, folds of
AUs that the person does not show.

Inputs: a `Head`, a random generator. Returns: a shape [V, 3] and AU deltas [A, V, 3] in cm.
See also: head_mesh.py (the rigs), appearance.py (colours, hair, glasses).
"""

import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.builtin_aus import EYE_X, MOUTH_Y
from auscan.datasets.synth.ict import MAPPING
from auscan.datasets.synth.person import Floats
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.head_mesh import EXPRESSIONS, Head, Random, smooth_field, weighted_sum

RELATED: dict[str, dict[str, float]] = {
    "AU01": {"browOuterUp": 0.4},
    "AU02": {"browInnerUp": 0.6},
    "AU04": {"eyeSquint": 0.4, "noseSneer": 0.2, "browInnerUp": 0.3},
    "AU05": {"browOuterUp": 0.25, "browInnerUp": 0.25},
    "AU06": {"eyeSquint": 0.7, "mouthUpperUp": 0.15},
    "AU07": {"cheekSquint": 0.4, "eyeBlink": 0.35},
    "AU09": {"mouthUpperUp": 0.4, "eyeSquint": 0.4, "cheekSquint": 0.4},
    "AU10": {"mouthUpperUp": 0.8, "cheekSquint": 0.4},
    "AU12": {"mouthDimple": 0.4, "cheekSquint": 0.3, "mouthStretch": 0.3},
    "AU14": {"mouthPress": 0.5, "mouthStretch": 0.2, "mouthSmile": 0.1},
    "AU15": {"mouthShrugLower": 0.4, "mouthStretch": 0.3, "mouthPress": 0.3},
    "AU17": {"mouthShrugUpper": 0.7, "mouthFrown": 0.2},
    "AU20": {"mouthFrown": 0.4, "mouthLowerDown": 0.2, "mouthDimple": 0.2},
    "AU23": {"mouthPucker": 0.35, "mouthPress": 0.7, "mouthRollLower": 0.4, "mouthRollUpper": 0.4},
    "AU24": {"mouthShrugUpper": 0.3, "mouthRollLower": 0.4, "mouthRollUpper": 0.4, "mouthPucker": 0.15},
    "AU25": {"mouthUpperUp": 0.5},
    "AU26": {"mouthLowerDown": 0.15},
    "AU28": {"mouthPress": 0.3, "jawOpen": 0.1},
    "AU45": {"eyeSquint": 0.4, "cheekSquint": 0.2},
}
"""Expressions that some artists draw with an AU, and their largest weights."""
_MIX = np.array([[MAPPING[au].get(name, 0.0) for name in EXPRESSIONS] for au in NANO_AUS])
_MIX_RELATED = np.array([[RELATED[au].get(name, 0.0) for name in EXPRESSIONS] for au in NANO_AUS])
FEATURES_CM = {
    "eyes apart": ((EYE_X, 0.2), (1.8, 1.6), (0.28, 0.0)),
    "eyes high": ((EYE_X, 0.2), (1.9, 0.9), (0.0, 0.2)),
    "brows high": ((3.2, 2.4), (2.4, 0.9), (0.0, 0.35)),
    "mouth wide": ((2.4, MOUTH_Y), (1.1, 1.0), (0.4, 0.0)),
    "upper lip": ((0.0, -6.1), (1.6, 0.45), (0.0, 0.16)),
    "lower lip": ((0.0, -7.8), (1.5, 0.5), (0.0, -0.2)),
    "corners": ((2.4, MOUTH_Y), (0.8, 0.8), (0.0, 0.22)),
    "nose wide": ((1.2, -4.2), (0.6, 0.7), (0.25, 0.0)),
    "nose long": ((0.0, -4.4), (1.4, 0.9), (0.0, -0.45)),
    "jaw wide": ((5.0, -8.0), (2.0, 2.5), (0.6, 0.0)),
    "chin long": ((0.0, -11.0), (3.0, 1.6), (0.0, -0.7)),
}
"""Place, extent and displacement (outwards, upwards) of a standard deviation of a feature, on both sides."""


def draw_shape(head: Head, random: Random) -> Floats:
    """Draw the face at rest: [V, 3] cm."""
    face = head.face
    spread = random.uniform(0.6, 1.5)
    identity = np.clip(random.normal(size=len(face.identity_deltas)), -2.5, 2.5) * spread
    shape = face.neutral + weighted_sum(identity, face.identity_deltas)
    shape = shape + _features(face.neutral, random) * random.uniform(0, 1.3)
    warp = random.uniform(0, 0.22)
    for axis in range(3):
        shape[:, axis] += warp * smooth_field(face.neutral, float(random.uniform(6, 12)), random)
    shape *= np.exp(random.normal(0, [0.05, 0.05, 0.07]))
    folds = random.uniform(0, 0.7, len(NANO_AUS)) * (random.random(len(NANO_AUS)) < 0.15)
    rough = random.uniform(0, 0.02) * smooth_field(face.neutral, 1.0, random)
    shape += weighted_sum(folds, head.relief)
    shape[:, 2] += rough
    return np.asarray(shape, np.float32)


def _features(neutral: Floats, random: Random) -> Floats:
    """Draw displacements [V, 3] that change size and place of features."""
    x, y, z = neutral.T.astype(np.float64)
    moved = np.zeros_like(neutral)
    front = np.clip(z / 4, 0, 1)
    for (at_x, at_y), (wide, high), (out, up) in FEATURES_CM.values():
        amount = random.normal()
        near = np.exp(-0.5 * ((np.abs(x) - at_x) / wide) ** 2 - 0.5 * ((y - at_y) / high) ** 2) * front
        moved[:, 0] += amount * out * near * np.clip(x / 0.5, -1, 1)
        moved[:, 1] += amount * up * near
    return moved


def draw_au_deltas(head: Head, random: Random) -> Floats:
    """Draw a person's AU deltas, wrinkles included: [A, V, 3] cm at intensity 1."""
    usual = head.face.au_deltas
    drawn = usual.copy()
    if len(head.expressions):
        drawn = 0.35 * usual + 0.65 * _mixed(head, random)
    for row in range(len(drawn)):
        drawn[row] *= (1 + 0.3 * smooth_field(head.face.neutral, float(random.uniform(4, 9)), random))[
            :, None
        ]
    gains = np.exp(random.normal(0, 0.15, len(drawn))) * _largest(usual) / np.maximum(_largest(drawn), 1e-6)
    depth = random.uniform(0.35, 1.5) * (random.random(len(drawn)) < 0.7)
    return np.asarray(gains[:, None, None] * drawn + depth[:, None, None] * head.relief, np.float32)


def _mixed(head: Head, random: Random) -> Floats:
    """Mix each AU from ARKit's expressions in random proportions: [A, V, 3]."""
    own = _MIX * np.exp(random.normal(0, 0.45, _MIX.shape))
    related = _MIX_RELATED * random.uniform(0, 1, _MIX.shape) * (random.random(_MIX.shape) < 0.5)
    flat = (own + related).astype(np.float32) @ head.expressions.reshape(len(head.expressions), -1)
    return np.asarray(flat.reshape(len(NANO_AUS), *head.face.neutral.shape), np.float32)


def _largest(deltas: Floats) -> NDArray[np.float32]:
    """Return the displacement [A] that 99 of 100 moving vertices do not exceed, cm."""
    size = np.linalg.norm(deltas, axis=2)
    return np.asarray(np.quantile(size, 0.997, axis=1), np.float32)
