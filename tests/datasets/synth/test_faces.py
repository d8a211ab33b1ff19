"""Test the built-in face and the reader of ICT-FaceKit: shapes, anchors, and the movement of each AU."""

from pathlib import Path

import numpy as np
import pytest

from auscan.core.errors import InputError
from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.dynamics import RIG_AUS
from auscan.datasets.synth.ict import MAPPING, au_deltas, ict_face
from auscan.datasets.synth.person import PAINTS, Face
from auscan.datasets.synth.raster import View, project, rasterise

ICT = Path(__file__).parents[4] / "shared" / "data" / "ict_facekit.npz"
BROWS, LIDS, MOUTH = (1.0, 4.5), (-2.0, 1.2), (-9.5, -4.8)  # ranges of height, cm


@pytest.fixture(scope="module", params=["builtin", "ict"])
def face(request: pytest.FixtureRequest) -> Face:
    if request.param == "builtin":
        return builtin_face()
    if not ICT.is_file():
        pytest.skip("needs a copy of ICT-FaceKit")
    return ict_face(ICT)


def moved(face: Face, au: str) -> np.ndarray:
    return face.au_deltas[RIG_AUS.index(au)]


def strongest(face: Face, au: str) -> float:
    """Return the height of the largest displacement of an AU, cm from the eyes."""
    return float(face.neutral[np.argmax(np.linalg.norm(moved(face, au), axis=1)), 1])


def test_every_face_has_all_aus_and_consistent_shapes(face: Face) -> None:
    count = len(face.neutral)
    assert face.au_deltas.shape == (len(RIG_AUS), count, 3)
    assert face.identity_deltas.shape[1:] == (count, 3)
    assert face.triangles.min() == 0
    assert face.triangles.max() == count - 1
    assert face.paint.shape == (count, len(PAINTS))
    assert np.allclose(face.paint.sum(axis=1), 1, atol=1e-5)
    assert face.paint.min() >= -1e-6


def test_intensities_and_shapes_add_up(face: Face) -> None:
    rng = np.random.default_rng(0)
    identity = rng.normal(size=len(face.identity_deltas)).astype(np.float32)
    shape = face.shape(identity)
    one, two = np.eye(len(RIG_AUS), dtype=np.float32)[[2, 6]]
    both = face.vertices(one + two, shape)
    assert np.allclose(both - shape, face.au_deltas[2] + face.au_deltas[6], atol=1e-4)
    assert not np.allclose(shape, face.neutral, atol=0.1)


def test_faces_are_symmetrical_and_so_are_their_aus(face: Face) -> None:
    x = face.neutral[:, 0]
    for delta in face.au_deltas:
        size = np.linalg.norm(delta, axis=1)
        assert size[x > 0.05].sum() == pytest.approx(size[x < -0.05].sum(), rel=0.05)


def test_the_five_points_lie_where_eyes_nose_and_mouth_are(face: Face) -> None:
    left, right, nose, left_mouth, right_mouth = face.points(face.neutral)
    assert left[0] < -2.5 < 2.5 < right[0]
    assert left_mouth[0] < -1.8 < 1.8 < right_mouth[0]
    assert left[1] > nose[1] > left_mouth[1]
    assert nose[2] > left_mouth[2] > 5


@pytest.mark.parametrize(
    ("aus", "where"),
    [
        (("AU01", "AU02", "AU04"), BROWS),
        (("AU07",), LIDS),
        (("AU10", "AU12", "AU15", "AU23", "AU24", "AU25"), MOUTH),
    ],
)
def test_each_au_moves_its_own_part_of_the_face_most(
    face: Face, aus: tuple[str, ...], where: tuple[float, float]
) -> None:
    for au in aus:
        assert where[0] < strongest(face, au) < where[1], au


@pytest.mark.parametrize(("au", "upwards"), [("AU01", 1), ("AU02", 1), ("AU04", -1)])
def test_brows_rise_or_sink(face: Face, au: str, upwards: int) -> None:
    brow = face.paint[:, PAINTS.index("brow")] * (face.neutral[:, 1] > 1.5)
    assert np.sign((moved(face, au)[:, 1] * brow).sum()) == upwards


@pytest.mark.parametrize(
    ("au", "outwards", "upwards"), [("AU12", 1, 1), ("AU15", None, -1), ("AU23", -1, None)]
)
def test_mouth_corners_move_in_the_directions_that_facs_describes(
    face: Face, au: str, outwards: int | None, upwards: int | None
) -> None:
    corner = moved(face, au)[face.anchors[4]].mean(axis=0)
    if outwards is not None:
        assert np.sign(corner[0]) == outwards
    if upwards is not None:
        assert np.sign(corner[1]) == upwards


def test_au26_lowers_the_chin_and_au25_hardly_moves_it(face: Face) -> None:
    chin = (
        (np.abs(face.neutral[:, 0]) < 1) & (np.abs(face.neutral[:, 1] + 10) < 0.7) & (face.neutral[:, 2] > 5)
    )
    dropped, parted = (moved(face, au)[chin, 1].mean() for au in ("AU26", "AU25"))
    assert dropped < -0.8
    assert abs(parted) < abs(dropped) / 2


def test_a_behaviour_with_the_twelve_aus_moves_the_same_vertices_as_with_all(face: Face) -> None:
    rng = np.random.default_rng(0)
    twelve = rng.uniform(0, 1, 12).astype(np.float32)
    every = np.concatenate([twelve, np.zeros(len(RIG_AUS) - 12, np.float32)])
    assert np.allclose(face.vertices(twelve, face.neutral), face.vertices(every, face.neutral), atol=1e-5)


def upper_lid(face: Face, au: str) -> float:
    """Return the largest upward (or, if larger, downward) movement of the upper lid by an AU, cm."""
    eye = face.neutral[face.anchors[0]].mean(axis=0)
    off = face.neutral - eye
    skin = face.paint[:, PAINTS.index("skin")] > 0.5
    lid = skin & (np.abs(off[:, 0]) < 0.4) & (off[:, 1] > 0.15) & (off[:, 1] < 1) & (face.neutral[:, 2] > 4)
    heights = moved(face, au)[lid, 1]
    return float(heights[np.argmax(np.abs(heights))])


def test_au45_lowers_the_upper_lid_and_au05_raises_it(face: Face) -> None:
    assert upper_lid(face, "AU45") < -0.5
    assert upper_lid(face, "AU05") > 0.1
    assert abs(upper_lid(face, "AU07")) < abs(upper_lid(face, "AU45")) / 2


def visible(face: Face, vertices: np.ndarray, paints: tuple[str, ...]) -> float:
    """Return the visible area of some materials in a frontal picture, cm2."""
    weight = face.paint[:, [PAINTS.index(name) for name in paints]].sum(axis=1, keepdims=True)
    image, depth = np.zeros((300, 240, 3), np.float32), np.full((300, 240), -np.inf, np.float32)
    corners = project(vertices, View(yaw=0, pitch=0, roll=0, scale=10, x=120, y=130))
    rasterise(corners, face.triangles, np.repeat(weight, 3, axis=1), image, depth)
    return float(image[..., 0].sum() / 100)


def test_no_eyeball_is_visible_in_a_blink(face: Face) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        shape = face.shape(0.5 * rng.normal(size=len(face.identity_deltas)).astype(np.float32))
        eyes = [
            visible(face, shape + share * moved(face, "AU45"), ("sclera", "iris", "pupil"))
            for share in (0, 0.5, 1)
        ]
        assert eyes[1] < 0.65 * eyes[0]
        assert eyes[2] < 0.08 * eyes[0]


def test_sucked_lips_are_hidden_and_show_no_mouth_cavity(face: Face) -> None:
    lips = [visible(face, face.neutral + share * moved(face, "AU28"), ("lip",)) for share in (0, 1)]
    assert lips[1] < 0.6 * lips[0]
    cavity = [
        visible(face, face.neutral + share * moved(face, "AU28"), ("mouth", "teeth")) for share in (0, 1)
    ]
    assert cavity[1] < cavity[0] + 0.1


@pytest.mark.parametrize(
    ("au", "low", "high"),
    [("AU05", -1.5, 2), ("AU09", -7, 3.5), ("AU14", -8.5, -5), ("AU17", -12, -6), ("AU20", -9, -5)],
)
def test_each_further_au_moves_its_region_most(face: Face, au: str, low: float, high: float) -> None:
    assert low < strongest(face, au) < high


def test_the_mapping_covers_all_aus_and_none_uses_pucker() -> None:
    assert tuple(MAPPING) == RIG_AUS
    assert not any("mouthPucker" in parts for parts in MAPPING.values())


def test_left_and_right_expressions_are_both_used() -> None:
    names = sorted(
        {side for parts in MAPPING.values() for name in parts for side in (f"{name}_L", f"{name}_R")}
    )
    deltas = np.ones((len(names), 4, 3), np.float32)
    found = au_deltas(names, deltas)
    assert np.allclose(found[RIG_AUS.index("AU02")], 2 * MAPPING["AU02"]["browOuterUp"])


def test_a_file_without_a_face_is_refused_with_its_name(tmp_path: Path) -> None:
    text = tmp_path / "face.npz"
    text.write_text("no zip")
    with pytest.raises(InputError, match=r"face\.npz"):
        ict_face(text)
    np.savez(tmp_path / "other.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(InputError, match="expression_names"):
        ict_face(tmp_path / "other.npz")


def test_a_missing_expression_is_named() -> None:
    with pytest.raises(InputError, match="browInnerUp"):
        au_deltas(["jawOpen"], np.zeros((1, 4, 3), np.float32))
