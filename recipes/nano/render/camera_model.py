"""Render a picture of a head: perspective, light, background, then blur, noise and compression.

Inputs: a `Head`, an `Appearance`, a moved mesh, a pose, a `CameraSetup`. Returns: a `Picture`.
See also: expressions.py (AU intensities), occluders.py (occlusion).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.person import Floats
from auscan.datasets.synth.raster import View, rasterise, rotation_matrix, vertex_normals
from recipes.nano.render.appearance import Appearance, Random
from recipes.nano.render.head_mesh import Head, concavity

Image = NDArray[np.uint8]
_FINER = 2  # supersampling factor of heads


@dataclass(frozen=True, eq=False)
class CameraSetup:
    """Camera, light and background; the same for all frames of a clip."""

    background: Image
    """[H, W, 3]."""
    scale: float
    """px in a cm at the eyes."""
    distance_cm: float
    """Distance from the camera to the eyes, cm."""
    light: Floats
    """[3]: unit vector towards the light, in the axes of the camera."""
    key_light: Floats
    """[3] RGB strength of the directional light."""
    ambient: Floats
    """[3] RGB strength of the ambient light."""
    depth: float
    """Darkness of folds."""
    gamma: float
    """Exponent on grey levels."""
    noise: float
    """Standard deviation in grey levels, of 255."""
    blur_px: float
    """Standard deviation of the blur, px."""
    jpeg: int
    """JPEG quality; 0 for no compression."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture with its exact geometry."""

    image: Image
    """[H, W, 3] RGB."""
    points: Floats
    """[5, 2] px: eyes, nose tip, mouth corners; left has the smaller x."""
    outline: Floats
    """[L, 2] px: front of the face; its hull is the face region."""
    lip_gap: float
    """Inner-lip distance over face height."""


def draw_camera_setup(random: Random, plain: bool = False) -> CameraSetup:
    """Draw camera, light and background.  plain: only good cameras and good light, as in clips."""
    scale = float(np.clip(np.exp(random.normal(np.log(6.5), 0.4)), 3.0, 13))
    wide, high = np.clip(np.array([random.uniform(24, 40), random.uniform(27, 36)]) * scale, 96, 400)
    light = np.array([random.uniform(-1.4, 1.4), random.uniform(-0.5, 1.1), random.uniform(0.0, 1.0)])
    ambient = random.uniform(0.25, 0.6)
    exposure = np.exp(random.normal(0.12, 0.12 if plain else 0.25))
    tint = np.clip(random.normal(1, 0.06, (2, 3)), 0.8, 1.2)
    poor = not plain and random.random() < 0.3
    return CameraSetup(
        background=_background(random, round(wide), round(high)),
        scale=scale,
        distance_cm=float(np.exp(random.uniform(np.log(25), np.log(300)))),
        light=(light / np.linalg.norm(light)).astype(np.float32),
        key_light=(exposure * random.uniform(0.3, 0.65) * tint[0]).astype(np.float32),
        ambient=(exposure * ambient * tint[1]).astype(np.float32),
        depth=float(random.uniform(0.5, 1.3)),
        gamma=float(np.exp(random.normal(0, 0.12))),
        noise=float(random.uniform(4, 14) if poor else random.uniform(0.3, 4)),
        blur_px=float(random.uniform(0.6, 1.6) if poor else random.uniform(0, 0.5)),
        jpeg=int(random.integers(25, 70) if poor else random.integers(70, 96)),
    )


def adjust_exposure(camera: CameraSetup, person: Appearance) -> CameraSetup:
    """Raise the exposure for dark faces, as an automatic exposure does in part."""
    gain = float(np.clip((150 / max(float(person.skin.mean()), 1)) ** 0.45, 0.85, 1.5))
    return replace(camera, key_light=camera.key_light * gain, ambient=camera.ambient * gain)


def render_head(
    head: Head,
    person: Appearance,
    vertices: Floats,
    pose: tuple[float, float, float],
    at: tuple[float, float],
    camera: CameraSetup,
) -> Picture:
    """Draw the head over the background, without camera artefacts.

    vertices: [V, 3] cm of the moved face.  pose: yaw, pitch, roll in degrees, with the signs of raster.View.
    at: middle between the eyes, as shares of width and height.
    """
    frame = camera.background.copy()
    origin = (at[0] * frame.shape[1], at[1] * frame.shape[0])
    view = View(*pose, scale=camera.scale, x=origin[0], y=origin[1])
    whole = np.concatenate([vertices + person.hair_offset, person.extra_vertices]).astype(np.float32)
    colours = _shade(whole, person, view, camera)
    _composite(frame, _project(whole, view, camera.distance_cm), person.triangles, colours)
    points = _project(head.face.points(vertices), view, camera.distance_cm)[:, :2]
    outline = _project(vertices[head.outline], view, camera.distance_cm)[:, :2]
    return Picture(frame, points, outline, head.lip_gap(vertices))


def apply_camera(image: Image, camera: CameraSetup, random: Random) -> Image:
    """Apply camera artefacts: gamma, blur, noise, compression."""
    if camera.blur_px > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), camera.blur_px)
    levels = 255 * (np.arange(256) / 255) ** camera.gamma
    noisy = levels.astype(np.float32)[image] + random.normal(0, camera.noise, (*image.shape[:2], 1)).astype(
        np.float32
    )
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    if camera.jpeg:
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg])[1]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB).astype(np.uint8)
    return image


def _project(vertices: Floats, view: View, distance_cm: float) -> Floats:
    """Project vertices [V, 3] cm in perspective: x px, y px, depth cm."""
    turned: Floats = vertices @ rotation_matrix(view).T
    near = (
        view.scale * distance_cm / np.maximum(distance_cm + 10 - turned[:, 2], 5.0)
    )  # eyes are 10 cm in front of the origin
    turned[:, 0] = view.x + near * turned[:, 0]
    turned[:, 1] = view.y - near * turned[:, 1]
    return turned


def _shade(vertices: Floats, person: Appearance, view: View, camera: CameraSetup) -> Floats:
    """Shade vertices with ambient, directional and specular light, with dark folds. Return colours [V, 3]."""
    normals = vertex_normals(vertices, person.triangles)
    folds = concavity(vertices, normals, person.triangles)
    turned = normals @ rotation_matrix(view).T
    facing = turned @ camera.light
    soft = np.clip((facing + 0.15) / 1.15, 0, 1)
    if person.shades:
        soft = np.round(soft * (person.shades - 1)) / (person.shades - 1)
    half = camera.light + np.array([0, 0, 1], np.float32)
    glint = np.clip(turned @ (half / np.linalg.norm(half)), 0, 1) ** 24
    open_to = np.clip(1 - 0.9 * camera.depth * folds, 0.35, 1.15)[:, None]
    sky = (0.8 + 0.2 * turned[:, 1])[:, None]
    diffuse = person.albedo * open_to * (camera.ambient * sky + camera.key_light * soft[:, None])
    return np.asarray(diffuse + 255 * (person.gloss * glint)[:, None] * camera.key_light, np.float32)


def _composite(frame: Image, corners: Floats, triangles: NDArray[np.int32], colours: Floats) -> None:
    """Draw the mesh at a higher resolution and composite it over the frame."""
    height, width = frame.shape[:2]
    x0, y0 = np.clip(np.floor(corners[:, :2].min(axis=0)).astype(int), 0, [width, height])
    x1, y1 = np.clip(np.ceil(corners[:, :2].max(axis=0)).astype(int) + 1, 0, [width, height])
    if x1 <= x0 or y1 <= y0:
        return
    # Pixel centres: x_large = (x + 0.5) * finer - 0.5.
    corners[:, :2] = (corners[:, :2] - [x0, y0] + 0.5) * _FINER - 0.5
    large = np.zeros(((y1 - y0) * _FINER, (x1 - x0) * _FINER, 3), np.float32)
    depth = np.full(large.shape[:2], -np.inf, np.float32)
    rasterise(corners, triangles, colours, large, depth)
    size = (int(x1 - x0), int(y1 - y0))
    small = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    cover = cv2.resize((depth > -np.inf).astype(np.float32), size, interpolation=cv2.INTER_AREA)[..., None]
    frame[y0:y1, x0:x1] = np.clip(small + (1 - cover) * frame[y0:y1, x0:x1], 0, 255)


def _background(random: Random, width: int, height: int) -> Image:
    """Draw a background of smooth colours and blurred rectangles."""
    shades = random.uniform(0, 255, 3) + random.normal(0, random.uniform(5, 70), (5, 5, 3))
    picture = cv2.resize(shades.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(random.integers(0, 9)):
        corner = random.uniform(-0.2, 1, 2) * [width, height]
        size = random.uniform(0.05, 0.8, 2) * [width, height]
        a, b = corner.astype(int).tolist(), (corner + size).astype(int).tolist()
        cv2.rectangle(picture, a, b, random.uniform(0, 255, 3).tolist(), cv2.FILLED)
    picture += random.uniform(0.3, 0.9) * (
        picture.mean(axis=2, keepdims=True) - picture
    )  # rooms have pale colours
    fine = random.normal(0, random.uniform(0, 25), (height // 3 + 1, width // 3 + 1, 1)).astype(np.float32)
    picture += cv2.resize(fine, (width, height))[..., None]
    return np.clip(cv2.GaussianBlur(picture, (0, 0), random.uniform(0.8, 8)), 0, 255).astype(np.uint8)
