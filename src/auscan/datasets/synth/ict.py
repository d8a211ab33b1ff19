"""Read ICT-FaceKit's face (MIT, downloaded by the user, repacked as .npz) and map its expressions to AUs.

The file holds `neutral` [V, 3] cm, quads `faces` with one material each, expression deltas by ARKit name, and
identity deltas. MAPPING defines each AU as a weighted sum of expressions; left and right variants are both
used. Eyelashes and the transparent shells of the eye are skipped, because they need a texture.

Inputs: the path of an ict_facekit.npz.  Returns: a `Face`.
See also: person.py (the mesh), builtin.py (the face without external assets).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.datasets.synth.dynamics import RIG_AUS
from auscan.datasets.synth.person import PAINTS, Face, Floats, quads_to_triangles

MAPPING: Final[Mapping[str, Mapping[str, float]]] = {
    "AU01": {"browInnerUp": 1.8},
    "AU02": {"browOuterUp": 1.2},
    "AU04": {"browDown": 1.8},
    # cheekRaiser lifts the cheek, cheekSquint forms the pouch below the eye.
    "AU06": {"cheekRaiser": 0.5, "cheekSquint": 1.4},
    "AU07": {"eyeSquint": 1.8, "eyeBlink": 0.15},
    # AU10 deepens the nasolabial fold in FACS, which mouthUpperUp alone does not.
    # The lower lip follows slightly, because parted lips are AU25.
    "AU10": {"mouthUpperUp": 0.35, "noseSneer": 0.7, "mouthShrugLower": 0.3, "mouthClose": 0.12},
    "AU12": {"mouthSmile": 0.8},
    "AU15": {"mouthFrown": 1.3},
    # Both lips roll in slightly and the mouth narrows (negative stretch). No pucker, because that is AU18.
    "AU23": {"mouthRollLower": 0.5, "mouthRollUpper": 0.5, "mouthStretch": -0.5},
    # The lips press together and the lower lip is pushed up against the upper lip; the width is unchanged.
    "AU24": {"mouthPress": 1.4, "mouthShrugLower": 0.35, "mouthRollLower": 0.2, "mouthRollUpper": 0.3},
    "AU25": {"mouthLowerDown": 1.0, "mouthUpperUp": 0.25},
    "AU26": {"jawOpen": 0.5},
    "AU05": {"eyeWide": 1.2},
    "AU09": {"noseSneer": 1.1, "browDown": 0.5, "mouthShrugLower": 0.6, "mouthClose": 0.25},
    "AU14": {"mouthDimple": 1.0},
    "AU17": {"mouthShrugLower": 1.0},
    "AU20": {"mouthStretch": 1.2},
    "AU28": {"mouthRollLower": 1.1, "mouthRollUpper": 1.1},
    "AU45": {"eyeBlink": 1.2},
}
"""ARKit expressions of each AU and their weights at intensity 1."""

_KEYS = ("neutral", "expression_names", "expression_deltas", "identity_deltas", "faces", "material_names")
_SKIPPED = ("M_EyeBlend", "M_EyeLashes", "M_EyeOcclusion", "M_LacrimalFluid", "M_IrisLeft", "M_IrisRight")
_INNER = ("M_GumsTongue", "M_Teeth", "M_ScleraLeft", "M_ScleraRight")
_DEEP_CM: Final[float] = 8.3
"""Depth z below which quads of inner materials are invisible, cm."""
_IDENTITIES: Final[int] = 30
"""Number of identity modes; the first modes hold almost all variation between persons."""
_ORIGIN: Final = np.array([0.0, 3.4, 0.0], np.float32)
"""Point between the eyes in the file, cm."""


def ict_face(path: Path, identities: int = _IDENTITIES) -> Face:
    """Return the face in the file.

    identities: number of identity modes to keep.
    Raises InputError if the file cannot be read or lacks an array.
    """
    return _build(_read(path), identities)


def ict_expressions(path: Path, weights: Mapping[str, float]) -> Floats:
    """Return displacements [V, 3] of the vertices of `ict_face`: a weighted sum of expressions of both sides.

    Raises InputError if the file cannot be read, or lacks an array or an expression.
    """
    data = _read(path)
    used = _vertices_and_quads(data)[0]
    names = [str(name) for name in data["expression_names"]]
    return _weighted(names, np.asarray(data["expression_deltas"]), weights, "the sum")[used]


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in (*_KEYS, "face_material") if key not in file.files]
            if missing:
                raise InputError(
                    f"{path} has no {', '.join(missing)}. Use an ict_facekit.npz; see docs/synth.md."
                )
            return {key: file[key] for key in file.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}). Use an ict_facekit.npz.") from error


def au_deltas(names: list[str], deltas: Floats) -> Floats:
    """Return AU deltas [A, V, 3] from expression deltas [E, V, 3].  Raises InputError if one is missing."""
    return np.stack([_weighted(names, deltas, MAPPING[au], au) for au in RIG_AUS])


def _weighted(
    names: list[str], deltas: NDArray[np.generic], weights: Mapping[str, float], description: str
) -> Floats:
    """Return a weighted sum [V, 3] of deltas [E, V, 3], selected by name.

    description: subject of the error message if an expression is missing.
    """
    total = np.zeros(deltas.shape[1:], np.float32)
    for expression, weight in weights.items():
        rows = [
            k for k, name in enumerate(names) if name in (expression, f"{expression}_L", f"{expression}_R")
        ]
        if not rows:
            raise InputError(f"The face has no expression {expression}, which {description} requires.")
        total += weight * deltas[rows].sum(axis=0, dtype=np.float32)
    return total


def _vertices_and_quads(
    data: dict[str, NDArray[np.generic]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.generic]]:
    """Return the kept vertices [V], quads [Q, 4] renumbered to them, and the material [Q] of each quad."""
    materials = [str(name) for name in data["material_names"]]
    skipped = [materials.index(name) for name in _SKIPPED if name in materials]
    material = np.asarray(data["face_material"])
    # Quads deep inside the head are never visible.
    inner = np.isin(material, [k for k, name in enumerate(materials) if name in _INNER])
    deep = np.asarray(data["neutral"])[np.asarray(data["faces"])][..., 2].max(axis=1) < _DEEP_CM
    kept = ~np.isin(material, skipped) & ~(inner & deep)
    quads = np.asarray(data["faces"], np.int64)[kept]
    used, renumbered = np.unique(quads, return_inverse=True)
    return used, renumbered.reshape(quads.shape), material[kept]


def _build(data: dict[str, NDArray[np.generic]], identities: int) -> Face:
    used, quads, material = _vertices_and_quads(data)
    neutral = np.asarray(data["neutral"], np.float32)[used] - _ORIGIN
    vertex_material = np.zeros(len(used), np.int64)
    vertex_material[quads] = material[:, None]
    kind = np.array([str(name) for name in data["material_names"]])[vertex_material]
    expressions = np.asarray(data["expression_deltas"])[:, used].astype(np.float32)
    names = [str(name) for name in data["expression_names"]]
    return Face(
        neutral=neutral,
        triangles=quads_to_triangles(quads),
        au_deltas=au_deltas(names, expressions),
        identity_deltas=np.asarray(data["identity_deltas"])[:identities, used].astype(np.float32),
        paint=_paint(neutral, kind),
        anchors=_anchors(neutral, kind),
    )


# Outlines of the right half in cm, origin between the eyes; the face is symmetrical.
_LIP = np.array(
    [[0, -5.85], [0.7, -5.75], [1.6, -6.15], [2.45, -6.9], [1.75, -7.45], [0.9, -7.75], [0, -7.8]]
)
_BROW = np.array(
    [[1.0, 1.95], [1.0, 2.6], [2.4, 3.0], [3.9, 3.1], [5.1, 2.6], [5.9, 1.7], [4.9, 2.1], [3.8, 2.5]]
)


def _paint(neutral: Floats, kind: NDArray[np.str_]) -> Floats:
    """Return paint weights [V, PAINTS]; outlines are softened over one to two millimetres."""
    weight = dict.fromkeys(PAINTS, np.zeros(len(neutral), np.float32))
    x, y, z = neutral.T
    front = z > 5
    skin = np.isin(kind, ["M_Face", "M_BackHead"])
    weight["lip"] = skin * front * (z > 9.2) * _inside(np.vstack([_LIP, _LIP[::-1] * [-1, 1]]), x, y, 0.12)
    weight["brow"] = 0.85 * skin * front * _inside(_BROW, np.abs(x), y, 0.15)
    hairline = 6.7 - 0.05 * x**2 - 0.9 * np.clip(4 - z, 0, None)
    hair = np.clip((y - hairline) / 0.5, 0, 1) * (y > -9 + 0.3 * np.abs(z))
    weight["hair"] = skin * np.where(
        front, hair, np.maximum(hair, (kind == "M_BackHead") * (z < 2) * (y > -7))
    )
    weight["cloth"] = skin * np.clip((-15.0 - y) / 0.5, 0, 1)
    weight["mouth"] = (kind == "M_GumsTongue") + skin * np.clip((8.4 - z) / 0.8, 0, 1) * (
        (np.abs(x) < 3.2) * (y < -4.2) * (y > -9.5) * (z > 0)
    )
    weight["teeth"] = (kind == "M_Teeth").astype(np.float32)
    eye = np.char.startswith(kind.astype(str), "M_Sclera")
    for side in (-1, 1):
        ball = eye & (np.sign(x) == side)
        if ball.any():
            low, high = neutral[ball].min(axis=0), neutral[ball].max(axis=0)
            off_axis = np.hypot(x - (low[0] + high[0]) / 2, y - (low[1] + high[1]) / 2 + 0.05)
            seen = ball & (z > (low[2] + high[2]) / 2)
            weight["pupil"] = weight["pupil"] + seen * (off_axis < 0.28)
            weight["iris"] = weight["iris"] + seen * (off_axis >= 0.28) * np.clip(
                (0.72 - off_axis) / 0.15, 0, 1
            )
    rest = eye.astype(np.float32)
    weight["sclera"] = np.clip(rest - weight["iris"] - weight["pupil"], 0, 1)
    paint = np.stack([weight[name] for name in PAINTS], axis=1).astype(np.float32)
    paint /= np.maximum(1, paint.sum(axis=1, keepdims=True))
    paint[:, 0] += 1 - paint.sum(axis=1)
    return paint


def _inside(outline: NDArray[np.float64], x: Floats, y: Floats, soft_cm: float) -> Floats:
    """Return weights [V]: 1 inside the outline, 0 outside, with a ramp `soft_cm` wide across its edge."""
    edge = outline.astype(np.float32).reshape(-1, 1, 2)
    off_cm = [cv2.pointPolygonTest(edge, (float(a), float(b)), True) for a, b in zip(x, y, strict=True)]
    return np.asarray(np.clip(np.asarray(off_cm) / soft_cm + 0.5, 0, 1), np.float32)


def _anchors(neutral: Floats, kind: NDArray[np.str_]) -> tuple[NDArray[np.int64], ...]:
    """Return anchor vertices: the fronts of the eyeballs, the nose tip and the mouth corners."""
    eyes = []
    for name in ("M_ScleraRight", "M_ScleraLeft"):
        ball = np.flatnonzero(kind == name)
        eyes.append(ball[np.argsort(neutral[ball, 2])[-9:]])
    positions = np.array([[0, -3.0, 13.1], [-2.5, -6.9, 10.2], [2.5, -6.9, 10.2]], np.float32)
    skin = np.flatnonzero(kind == "M_Face")
    near = [skin[[np.argmin(((neutral[skin] - position) ** 2).sum(axis=1))]] for position in positions]
    return (*eyes, *near)
