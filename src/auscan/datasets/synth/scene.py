"""Render frames of persons and occluders in front of a background, with lighting and camera effects.

Inputs: a `Scene` sampled once per video, the persons, a time on the clock.  Returns: a `SceneFrame`.
See also: dynamics.py (behaviour), person.py (occlusion over time), video.py (files).
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.dynamics import Array, Random, smooth_noise
from auscan.datasets.synth.person import Face, Floats, Person
from auscan.datasets.synth.raster import View, project, rasterise, rotation_matrix, vertex_normals

Image = NDArray[np.uint8]

Points = NDArray[np.floating]

DARK: Final[float] = 0.45
"""Light level, with 1 normal, below which a frame counts as dark."""

_SUPERSAMPLING: Final[int] = 2  # faces are drawn at this factor and averaged down for anti-aliasing

_NOISE_SLACK: Final[int] = 64  # largest random shift of the noise pattern per frame, px

_MOUTH_CM: Final = (3.2, 1.8)  # half width and half height of the mouth region

_EYES_CM: Final = (5.5, 2.4)  # of eyes and brows

_BROWS_CM: Final = 0.9  # from the eyes up to the centre of the region of eyes and brows

_BLANK_CM: Final = 22.0  # radius of the grey area over a face

_CARD_HZ: Final = 2.3  # openings per second of the mouth on a card

_SHIFT: Final[int] = 4  # fractional bits of OpenCV's coordinates, so that occluders move by less than a pixel


@dataclass(frozen=True, eq=False)
class Scene:
    """Background, light and camera of a video."""

    background: Image
    """Background [H, W, 3]."""
    light: Array
    """Brightness [K] over time; 1 is normal."""
    light_direction: Floats
    """Unit vector [3] towards the light."""
    light_colour: Floats
    """Factors [3] on red, green and blue."""
    blur_px: float
    """Standard deviation of the blur, px."""
    noise: NDArray[np.int16]
    """Noise pattern [H + slack, W + slack, 1], added to each frame with a different shift."""
    downscale: float
    """Factor by which the picture is reduced and enlarged again."""
    positions_px: tuple[tuple[float, float], ...]
    """Position (x, y) of each person, px."""
    sway: Array
    """Movement [K, 3] of all persons in the picture: right and down (px), and relative change of scale."""
    scale: float
    """Scale, px per cm."""
    seed: int
    """Seed of the noise shifts."""


@dataclass(frozen=True, eq=False)
class SceneFrame:
    """Rendered frame."""

    image: Image
    """Picture [H, W, 3] RGB."""
    points: tuple[Floats, ...]
    """Five points [5, 2] px of each person, visible or not, in the order of align.TEMPLATE."""
    covered: tuple[Floats, ...]
    """Covered share [2] of each person's mouth, and of eyes with brows, by pixels, 0 to 1."""


def sample_scene(
    random: Random, width: int, height: int, ticks: int, persons: int, dark: bool, low_quality: bool
) -> Scene:
    """Sample the scene of a video.

    ticks: length K of the clock.  dark: low light.  low_quality: blur, noise and low resolution.
    """
    scale = min(height / 33, width / persons / 26) * random.uniform(0.85, 1.1)
    light = (random.uniform(0.22, 0.4) if dark else random.uniform(0.8, 1.1)) * (
        1 + 0.08 * smooth_noise(random, ticks, 3.0)
    )
    light_direction = np.array(
        [random.uniform(-0.8, 0.8), random.uniform(0.1, 0.8), random.uniform(0.5, 1.0)]
    )
    spread = random.uniform(5, 10) if low_quality or dark else random.uniform(0.5, 4)
    noise = random.normal(0, spread, (height + _NOISE_SLACK, width + _NOISE_SLACK, 1))
    positions_px = tuple((width * (n + 0.5) / persons, height * 0.43) for n in range(persons))
    amplitude = np.array([0.03 * width / persons, 0.025 * height, 0.03])
    return Scene(
        background=_background(random, width, height),
        light=light,
        light_direction=(light_direction / np.linalg.norm(light_direction)).astype(np.float32),
        light_colour=np.clip(random.normal(1, 0.06, 3), 0.8, 1.2).astype(np.float32),
        blur_px=random.uniform(0.6, 1.4) if low_quality else random.uniform(0, 0.5),
        noise=np.round(noise).astype(np.int16),
        downscale=random.uniform(1.5, 2.2) if low_quality else 1.0,
        positions_px=positions_px,
        sway=np.stack([smooth_noise(random, ticks, 5.0) for _ in range(3)], axis=1) * amplitude,
        scale=scale,
        seed=int(random.integers(2**31)),
    )


def _background(random: Random, width: int, height: int) -> Image:
    """Sample a background [H, W, 3]: a vertical gradient of two colours with blurred rectangles."""
    up = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture = np.ascontiguousarray(
        np.broadcast_to(
            up * random.uniform(20, 210, 3) + (1 - up) * random.uniform(20, 210, 3), (height, width, 3)
        )
    ).astype(np.float32)
    for _ in range(random.integers(4, 12)):
        corner = (int(random.integers(0, width)), int(random.integers(0, height)))
        size = (int(random.integers(10, width // 2)), int(random.integers(10, height // 2)))
        colour = random.uniform(10, 240, 3).tolist()
        cv2.rectangle(picture, corner, (corner[0] + size[0], corner[1] + size[1]), colour, cv2.FILLED)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), random.uniform(1, 6)), np.uint8)


def render_frame(
    scene: Scene, face: Face, persons: tuple[Person, ...], time_s: float, index: int
) -> SceneFrame:
    """Render frame `index` of a video at a time in seconds."""
    frame = scene.background.copy()
    sway = persons[0].behaviour.interpolate(np.array([time_s]), scene.sway)[0]
    light = float(persons[0].behaviour.interpolate(np.array([time_s]), scene.light)[0])
    points, covered = [], []
    for person, position_px in zip(persons, scene.positions_px, strict=True):
        pose = person.behaviour.interpolate(np.array([time_s]), person.behaviour.pose)[0]
        view = View(
            pose[0],
            pose[1],
            pose[2],
            scene.scale * (1 + sway[2]),
            position_px[0] + sway[0],
            position_px[1] + sway[1],
        )
        person_points, shares = _draw_person(frame, face, person, view, scene, time_s)
        points.append(person_points)
        covered.append(shares)
    image = _apply_camera(_apply_light(frame, light * scene.light_colour), scene, index)
    return SceneFrame(image, tuple(points), tuple(covered))


def _draw_person(
    frame: Image, face: Face, person: Person, view: View, scene: Scene, time_s: float
) -> tuple[Floats, Floats]:
    """Draw one person and their occluders into the frame.

    Returns their five points [5, 2] in px, and the covered shares [2] of mouth and eyes.
    """
    behaviour = person.behaviour
    now = np.array([time_s])
    intensities = behaviour.rest + behaviour.interpolate(now, behaviour.movement)[0]
    vertices = face.vertices(np.clip(intensities, -0.3, 1.35).astype(np.float32), person.shape)
    colours = _shade(face, person, vertices, view, scene)
    _composite_face(frame, face, vertices, colours, view)
    points = project(face.points(vertices), view)[:, :2]
    _draw_accessories(frame, person, view)
    regions = [
        _region(frame, points[3:].mean(axis=0), _MOUTH_CM, view.scale),
        _region(frame, points[:2].mean(axis=0) - [0, _BROWS_CM * view.scale], _EYES_CM, view.scale),
    ]
    free = [each.copy() for each in regions]
    _draw_occluders(frame, person, view, points, time_s)
    shares = [(before != after).any(axis=2).mean() for before, after in zip(free, regions, strict=True)]
    return points, np.array(shares, np.float32)


def _region(frame: Image, centre: Points, half_cm: tuple[float, float], scale: float) -> Image:
    """Return a view of a rectangle of the frame around `centre` [2] px; at least one pixel."""
    height, width = frame.shape[:2]
    low = np.clip(np.floor(centre - np.array(half_cm) * scale), 0, [width - 1, height - 1]).astype(int)
    high = np.clip(np.ceil(centre + np.array(half_cm) * scale), low + 1, [width, height]).astype(int)
    return frame[low[1] : high[1], low[0] : high[0]]


def _shade(face: Face, person: Person, vertices: Floats, view: View, scene: Scene) -> Floats:
    """Return lit vertex colours [V, 3]: ambient light plus Lambertian light from the scene's direction."""
    light_direction = rotation_matrix(view).T @ scene.light_direction  # in the head's coordinates
    lambert = np.clip(vertex_normals(vertices, face.triangles) @ light_direction, 0, 1)
    return (person.colours * (0.4 + 0.68 * lambert)[:, None]).astype(np.float32)


def _composite_face(frame: Image, face: Face, vertices: Floats, colours: Floats, view: View) -> None:
    """Draw the mesh supersampled into its own picture, average it down and composite it over the frame."""
    height, width = frame.shape[:2]
    corners = project(vertices, view)
    x0, y0 = np.clip(np.floor(corners[:, :2].min(axis=0)).astype(int), 0, [width, height])
    x1, y1 = np.clip(np.ceil(corners[:, :2].max(axis=0)).astype(int) + 1, 0, [width, height])
    if x1 <= x0 or y1 <= y0:
        return
    # Pixel centres: x_large = (x + 0.5) * _SUPERSAMPLING - 0.5.
    corners[:, 0] = (corners[:, 0] - x0 + 0.5) * _SUPERSAMPLING - 0.5
    corners[:, 1] = (corners[:, 1] - y0 + 0.5) * _SUPERSAMPLING - 0.5
    large = np.zeros(((y1 - y0) * _SUPERSAMPLING, (x1 - x0) * _SUPERSAMPLING, 3), np.float32)
    depth = np.full(large.shape[:2], -np.inf, np.float32)
    rasterise(corners, face.triangles, colours, large, depth)
    size = (int(x1 - x0), int(y1 - y0))
    small = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize((depth > -np.inf).astype(np.float32), size, interpolation=cv2.INTER_AREA)[..., None]
    frame[y0:y1, x0:x1] = np.clip(small + (1 - alpha) * frame[y0:y1, x0:x1], 0, 255)


def _draw_accessories(image: Image, person: Person, view: View) -> None:
    if person.glasses:
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([2.5 * np.cos(turn), 2.0 * np.sin(turn) - 0.2], axis=1)
        rims = [
            np.column_stack([ring + np.array([x, 0]), np.full(24, 10.3)]).astype(np.float32)
            for x in (-3.2, 3.2)
        ]
        draw_glasses(image, (project(rims[0], view)[:, :2], project(rims[1], view)[:, :2]), view.scale)
    if person.fringe:
        x = np.linspace(-4.8, 4.8, 21)
        roots: Floats = np.column_stack([x, np.full(21, 6.8), np.full(21, 8.6)]).astype(np.float32)
        fall = np.outer(0.8 + 0.2 * np.sin(7 * x), [1.2, -5.4, 2.0]).astype(np.float32)
        draw_strands(
            image, project(roots, view)[:, :2], project(roots + fall, view)[:, :2], view.scale, person.hair
        )


def _draw_occluders(image: Image, person: Person, view: View, points: Floats, time_s: float) -> None:
    behaviour, now = person.behaviour, np.array([time_s])
    mouth, eyes = points[3:].mean(axis=0), points[:2].mean(axis=0)
    approach = np.array([8.0, 26.0]) * view.scale  # offset of an occluder that is away, px
    occlusion = float(behaviour.interpolate(now, person.mouth_occlusion)[0])
    if occlusion > 0.02 and person.mouth_occluder == "hand":
        draw_hand(image, mouth + (1 - occlusion) * approach, view.scale, person.skin)
    elif occlusion > 0.02 and person.mouth_occluder == "card":
        opening = 0.5 + 0.5 * np.sin(2 * np.pi * _CARD_HZ * time_s)
        draw_card(image, mouth + (1 - occlusion) * approach, view.scale, person.skin, opening)
    elif occlusion > 0.02:
        draw_microphone(image, mouth + (1 - occlusion) * approach, view.scale)
    occlusion = float(behaviour.interpolate(now, person.eye_occlusion)[0])
    if occlusion > 0.02:
        draw_hand(image, eyes + (1 - occlusion) * approach, view.scale, person.skin)
    if behaviour.interpolate(now, person.blank.astype(float))[0] >= 0.5:
        _line(image, tuple(points[2]), tuple(points[2]), np.full(3, 118.0), 2 * _BLANK_CM * view.scale)


def _apply_light(frame: Image, factors: Floats) -> Image:
    """Return the frame with its colour channels multiplied by factors [3]."""
    table = np.clip(np.arange(256)[:, None] * factors, 0, 255).astype(np.uint8)  # [256, 3]
    lit: Image = cv2.LUT(frame, table[None])
    return lit


def _apply_camera(image: Image, scene: Scene, index: int) -> Image:
    """Return the picture with the camera's resolution, blur and noise."""
    height, width = image.shape[:2]
    if scene.downscale > 1:
        small = (round(width / scene.downscale), round(height / scene.downscale))
        image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))
    if scene.blur_px > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur_px)
    x, y = np.random.default_rng([scene.seed, index]).integers(0, _NOISE_SLACK, 2)
    noisy = image + scene.noise[y : y + height, x : x + width]
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def draw_glasses(image: Image, rims: tuple[Points, Points], scale: float) -> None:
    """Draw both rims [N, 2] px of a pair of glasses, already projected, and the bridge between them."""
    dark = np.array([30.0, 28.0, 30.0])
    for rim in rims:
        points = np.round(rim * 2**_SHIFT).astype(np.int32)
        cv2.polylines(image, [points], True, dark.tolist(), max(1, round(0.32 * scale)), cv2.LINE_AA, _SHIFT)
    left, right = (
        (rim[np.argmax(rim[:, 0])] for rim in rims[:1]),
        (rim[np.argmin(rim[:, 0])] for rim in rims[1:]),
    )
    _line(image, tuple(next(left)), tuple(next(right)), dark, 0.32 * scale)


def draw_strands(image: Image, roots: Points, tips: Points, scale: float, hair: Array) -> None:
    """Draw strands of hair from roots [N, 2] to tips [N, 2], px."""
    for number, (root, tip) in enumerate(zip(roots, tips, strict=True)):
        _line(image, tuple(root), tuple(tip), hair * (0.8 + 0.1 * (number % 4)), 0.3 * scale)


def draw_hand(image: Image, at: Points, scale: float, skin: Array) -> None:
    """Draw a hand held sideways over the point [2] px, its fingers flat on the face."""
    for finger in range(4):
        y = at[1] + scale * (1.7 * finger - 2.4)
        tip = at[0] - scale * (4.6 - 0.5 * abs(finger - 1.2))
        _line(
            image, (tip, y), (at[0] + scale * 3, y + 0.2 * scale), skin * (0.97 - 0.05 * finger), 1.75 * scale
        )
        _line(
            image,
            (tip + 0.6 * scale, y + 0.85 * scale),
            (at[0] + 3 * scale, y + 1.0 * scale),
            skin * 0.66,
            0.2 * scale,
        )
    _line(
        image,
        (at[0] + 4.5 * scale, at[1]),
        (at[0] + 6 * scale, at[1] + 1.5 * scale),
        skin * 0.93,
        7.4 * scale,
    )
    _line(
        image,
        (at[0] + 6 * scale, at[1] + 3 * scale),
        (at[0] + 9 * scale, at[1] + 26 * scale),
        skin * 0.9,
        6 * scale,
    )


def draw_microphone(image: Image, at: Points, scale: float) -> None:
    """Draw a microphone with its head in front of the point [2] px and its handle pointing down."""
    grey = np.array([38.0, 38.0, 42.0])
    _line(image, (at[0], at[1] + scale), (at[0] + 2 * scale, at[1] + 14 * scale), grey, 2.6 * scale)
    _line(image, (at[0], at[1] - 0.3 * scale), (at[0] + 0.2 * scale, at[1] + scale), grey * 1.7, 5.6 * scale)
    _line(
        image,
        (at[0] - 0.9 * scale, at[1] - 1.2 * scale),
        (at[0] - 0.6 * scale, at[1]),
        grey * 3.2,
        0.5 * scale,
    )


def draw_card(image: Image, at: Points, scale: float, skin: Array, opening: float) -> None:
    """Draw a card in front of the point [2] px that shows a mouth, opened by 0 to 1, on skin."""
    _line(image, (at[0] - scale, at[1]), (at[0] + scale, at[1]), np.full(3, 225.0), 8.4 * scale)
    _line(image, (at[0] - scale, at[1]), (at[0] + scale, at[1]), skin, 7.6 * scale)
    centre = tuple(np.round(at * 2**_SHIFT).astype(int).tolist())
    for width, height, colour in (
        (2.5, 0.55 + 0.9 * opening, skin * [0.86, 0.62, 0.64]),
        (2.0, 0.08 + 0.8 * opening, np.array([52.0, 20.0, 22.0])),
    ):
        axes = tuple(round(each * scale * 2**_SHIFT) for each in (width, height))
        colour = np.clip(colour, 0, 255).tolist()
        cv2.ellipse(image, centre, axes, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _line(
    image: Image, start: tuple[float, ...], end: tuple[float, ...], colour: Array, thick: float
) -> None:
    a, b = ((round(float(p[0]) * 2**_SHIFT), round(float(p[1]) * 2**_SHIFT)) for p in (start, end))
    cv2.line(image, a, b, np.clip(colour, 0, 255).tolist(), max(1, round(thick)), cv2.LINE_AA, _SHIFT)
