"""Rasterise a triangle mesh with a z-buffer and colours interpolated between vertices.

This software rasteriser draws a face in a few milliseconds on one core, produces the same pixels on every
machine, and needs no graphics driver. The first call compiles the loops or loads them from disk (numba).

Axes: x right, y up, z towards the camera, cm; in the picture x right, y down, px. Larger depth is nearer.

Inputs: vertices, triangles, colours.  Returns: pixels drawn into the caller's picture and depth buffer.
See also: person.py (face mesh), scene.py (the rest of the picture).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """Pose and position of a head. The projection is orthographic, as perspective is weak at two metres."""

    yaw: float
    """Yaw, degrees; positive turns the face towards larger x in the picture."""
    pitch: float
    """Pitch, degrees; positive turns the face up."""
    roll: float
    """Roll, degrees; positive leans the head clockwise in the picture."""
    scale: float
    """Scale, px per cm."""
    x: float
    """Horizontal position of the origin, between the eyes, px."""
    y: float
    """Vertical position of the origin, px."""


def rotation_matrix(view: View) -> Floats:
    """Return the rotation matrix [3, 3] that applies pitch, then yaw, then roll."""
    p, w, r = np.deg2rad([-view.pitch, view.yaw, -view.roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(w), 0, np.sin(w)], [0, 1, 0], [-np.sin(w), 0, np.cos(w)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


def project(vertices: Floats, view: View) -> Floats:
    """Project vertices [V, 3] in cm; return [V, 3] with x and y in px and depth in cm."""
    turned: Floats = vertices @ rotation_matrix(view).T
    turned[:, 0] = view.x + view.scale * turned[:, 0]
    turned[:, 1] = view.y - view.scale * turned[:, 1]
    return turned


@njit(cache=True)
def vertex_normals(vertices: Floats, triangles: NDArray[np.int32]) -> Floats:
    """Return unit normals [V, 3] of vertices [V, 3], averaged over triangles [F, 3] weighted by area."""
    normals = np.zeros_like(vertices)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x, y, z = vertices[a, 0], vertices[a, 1], vertices[a, 2]  # scalars, because slices would be copied
        ux, uy, uz = vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z
        vx, vy, vz = vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for k in range(normals.shape[0]):
        length = np.sqrt(normals[k, 0] ** 2 + normals[k, 1] ** 2 + normals[k, 2] ** 2)
        if length > 0:
            normals[k, 0] /= length
            normals[k, 1] /= length
            normals[k, 2] /= length
    return normals


@njit(cache=True)
def rasterise(
    corners: Floats, triangles: NDArray[np.int32], colours: Floats, image: Floats, depth: Floats
) -> None:
    """Draw triangles that face the camera (anticlockwise with y up) into image [H, W, 3] and depth [H, W].

    corners: projected vertices [V, 3]: x px, y px, depth.  colours: [V, 3].
    A pixel is drawn if the triangle covers its centre and is nearer than the depth buffer. Initialise depth
    with -inf.
    """
    height, width = depth.shape
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, bx, by, cx, cy = (
            *(corners[a, 0], corners[a, 1], corners[b, 0]),
            *(corners[b, 1], corners[c, 0], corners[c, 1]),
        )
        area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)
        if area <= 1e-9:
            continue
        x0, x1 = max(0, int(np.ceil(min(ax, bx, cx)))), min(width - 1, int(np.floor(max(ax, bx, cx))))
        y0, y1 = max(0, int(np.ceil(min(ay, by, cy)))), min(height - 1, int(np.floor(max(ay, by, cy))))
        if x1 < x0 or y1 < y0:
            continue
        az, bz, cz = corners[a, 2], corners[b, 2], corners[c, 2]
        # The barycentric coordinates u, v, w change by a constant step from pixel to pixel.
        u_right, v_right = (cy - by) / area, (ay - cy) / area
        for y in range(y0, y1 + 1):
            u = ((cx - x0) * (by - y) - (bx - x0) * (cy - y)) / area - u_right
            v = ((ax - x0) * (cy - y) - (cx - x0) * (ay - y)) / area - v_right
            for x in range(x0, x1 + 1):
                u += u_right
                v += v_right
                w = 1.0 - u - v
                if u < -1e-6 or v < -1e-6 or w < -1e-6:
                    continue
                z = u * az + v * bz + w * cz
                if z > depth[y, x]:
                    depth[y, x] = z
                    for k in range(3):
                        image[y, x, k] = u * colours[a, k] + v * colours[b, k] + w * colours[c, k]
