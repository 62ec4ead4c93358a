"""Loops over triangles and pixels, compiled by numba at their first call and cached.

Numba compiles plain functions, so the shape checks of test runs are off.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from lipsound2.simulate.buffers import NOTHING, Illumination, Raster, Shadows, Surfaces

Vector = np.ndarray | tuple[float, float, float]
"""Vectors in loops are tuples, which unlike arrays need no allocation."""


@njit(cache=True, fastmath=True)
@no_type_check
def fill(points: np.ndarray, triangles: np.ndarray, two_sided: np.ndarray, raster: Raster) -> None:
    """Rasterise triangles into `raster` with a depth test."""
    height, width = raster.depth.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ax, ay, az = points[a]
        bx, by, bz = points[b]
        cx, cy, cz = points[c]
        # Rows point down, so that front faces are clockwise here.
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0 or (area > 0 and not two_sided[t]):
            continue
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        for row in range(top, bottom + 1):
            y = row + 0.5 - ay
            for column in range(left, right + 1):
                x = column + 0.5 - ax
                second = (x * (cy - ay) - (cx - ax) * y) / area
                third = ((bx - ax) * y - x * (by - ay)) / area
                if second < 0 or third < 0 or second + third > 1:
                    continue
                z = az + second * (bz - az) + third * (cz - az)
                if z > raster.depth[row, column]:
                    raster.depth[row, column] = z
                    raster.triangle[row, column] = t
                    raster.weights[row, column, 0] = second
                    raster.weights[row, column, 1] = third


@njit(cache=True, fastmath=True)
@no_type_check
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the normalised sum of the normals of the triangles around each vertex."""
    normals = np.zeros_like(vertices)
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ux, uy, uz = vertices[b] - vertices[a]
        vx, vy, vz = vertices[c] - vertices[a]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-12
        normals[i] /= length
    return normals


@njit(cache=True, fastmath=True)
@no_type_check
def dot(a: Vector, b: Vector) -> float:
    """Return the inner product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, fastmath=True)
@no_type_check
def unit(a: Vector) -> Vector:
    """Normalise a vector."""
    scale = 1 / (np.sqrt(dot(a, a)) + 1e-9)
    return a[0] * scale, a[1] * scale, a[2] * scale


@njit(cache=True, fastmath=True)
@no_type_check
def blend(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> Vector:
    """Interpolate vectors between the corners of a triangle."""
    a, b, c = values[corners[0]], values[corners[1]], values[corners[2]]
    v, w = weights
    u = 1 - v - w
    return (
        u * a[0] + v * b[0] + w * c[0],
        u * a[1] + v * b[1] + w * c[1],
        u * a[2] + v * b[2] + w * c[2],
    )


@njit(cache=True, fastmath=True)
@no_type_check
def lit(shadows: Shadows, place: Vector) -> float:
    """Return the share of the key light at a position: the mean of 4 x 4 texels of the shadow map."""
    size = len(shadows.depth)
    centre = shadows.centre
    p = (place[0] - centre[0], place[1] - centre[1], place[2] - centre[2])
    across = dot(shadows.axes[0], p) * shadows.scale + size / 2
    down = size / 2 - dot(shadows.axes[1], p) * shadows.scale
    depth = dot(shadows.axes[2], p)
    column, row = int(np.floor(across)), int(np.floor(down))
    if row < 2 or column < 2 or row >= size - 2 or column >= size - 2:
        return 1.0
    hidden = 0.0
    for r in range(-2, 3):
        tall = 1.0 if -2 < r < 2 else (down - row if r == 2 else 1 - down + row)
        for c in range(-2, 3):
            wide = 1.0 if -2 < c < 2 else (across - column if c == 2 else 1 - across + column)
            behind = (shadows.depth[row + r, column + c] - depth - shadows.bias) / shadows.softness
            hidden += tall * wide * min(1.0, max(0.0, behind))
    return 1 - hidden / 16


@njit(cache=True, fastmath=True)
@no_type_check
def paint_pixels(image: np.ndarray, raster: Raster, surfaces: Surfaces, scene: Illumination) -> None:
    """Shade every pixel of `image` that shows a surface."""
    height, width = raster.triangle.shape
    lamps, atlas, eye = scene.lamps, surfaces.atlas, scene.eye
    for row in range(height):
        for column in range(width):
            t = raster.triangle[row, column]
            if t == NOTHING:
                continue
            corners, weights = surfaces.triangles[t], raster.weights[row, column]
            n = unit(blend(scene.normals, corners, weights))
            p = blend(scene.vertices, corners, weights)
            look = unit((eye[0] - p[0], eye[1] - p[1], eye[2] - p[2]))
            facing = dot(n, look)
            if facing < 0:
                n, facing = (-n[0], -n[1], -n[2]), -facing
            shine, sharpness, around, hollow = scene.materials[surfaces.part[t]]
            key = dot(n, lamps[0])
            second = max(0.0, dot(n, lamps[2]))
            shadow = lit(scene.shadows, p) if key > -0.4 else 0.0
            half = unit((look[0] + lamps[0, 0], look[1] + lamps[0, 1], look[2] + lamps[0, 2]))
            gloss = max(0.0, dot(n, half)) ** sharpness
            rim = 0.04 + 0.5 * (1 - facing) ** 5
            reach = scene.openness[row, column] ** hollow
            sky = 0.5 + 0.5 * n[1]
            v, w = weights
            texels = surfaces.texels[t]
            x = (1 - v - w) * texels[0, 0] + v * texels[1, 0] + w * texels[2, 0] - 0.5
            y = (1 - v - w) * texels[0, 1] + v * texels[1, 1] + w * texels[2, 1] - 0.5
            tx, ty = int(x), int(y)
            fx, fy = x - tx, y - ty
            for k in range(3):
                above = atlas[ty, tx, k] * (1 - fx) + atlas[ty, tx + 1, k] * fx
                below = atlas[ty + 1, tx, k] * (1 - fx) + atlas[ty + 1, tx + 1, k] * fx
                albedo = above * (1 - fy) + below * fy
                bend = around * scene.wrap[k]
                direct = max(0.0, (key + bend) / (1 + bend)) * lamps[1, k] * shadow
                ambient = lamps[4, k] * sky + lamps[5, k] * (1 - sky)
                light = direct * (0.4 + 0.6 * reach) + (second * lamps[3, k] + ambient) * reach
                glint = 0.5 * shine * (gloss * lamps[1, k] * shadow + rim * ambient) * reach
                image[row, column, k] = albedo * light + glint
