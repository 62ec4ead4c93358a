"""Triangles on the image plane -> the nearest triangle at each pixel and the pixel's place in it.

Only the nearest triangle is kept, so the order of parts does not matter.
"""

from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float32, Int32

from lipsound2.simulate import packages
from lipsound2.simulate.buffers import FAR, NOTHING, Raster


def rasterise(
    points: Float32[np.ndarray, "vertices 3"],
    triangles: Int32[np.ndarray, "triangles 3"],
    two_sided: Bool[np.ndarray, " triangles"],
    size: tuple[int, int],
) -> Raster:
    """Find the nearest triangle at the centre of each pixel.

    Args:
        points: Column, row (in pixels) and nearness of each vertex.
        triangles: Corners, counter-clockwise as seen from their front.
        two_sided: Triangles without back-face culling.
        size: Height and width of the image.
    """
    raster = Raster(np.full(size, NOTHING, np.int32), np.zeros((*size, 2), np.float32), np.full(size, FAR, np.float32))
    kernels().fill(points, triangles, two_sided, raster)
    return raster


def vertex_normals(
    vertices: Float32[np.ndarray, "vertices 3"], triangles: Int32[np.ndarray, "triangles 3"]
) -> Float32[np.ndarray, "vertices 3"]:
    """Return area-weighted vertex normals of unit length."""
    return kernels().vertex_normals(vertices, triangles)


def kernels() -> ModuleType:
    """Import the compiled loops, which takes numba a second.

    Raises:
        MissingExtraError: numba is not installed.
    """
    packages.module("numba")
    from lipsound2.simulate import kernels as compiled

    return compiled
