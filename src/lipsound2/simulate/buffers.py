"""What the compiled loops of `kernels` read and fill: arrays under their names."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

NOTHING = -1
FAR = -1e9


class Raster(NamedTuple):
    """What each pixel sees.

    Attributes:
        triangle: The nearest triangle, or `NOTHING`.
        weights: Barycentric weights of that triangle's second and third corner.
        depth: How near the surface is (larger is nearer), or `FAR`.
    """

    triangle: Int32[np.ndarray, "height width"]
    weights: Float32[np.ndarray, "height width 2"]
    depth: Float32[np.ndarray, "height width"]


class Surfaces(NamedTuple):
    """Everything that is drawn, apart from where its vertices are."""

    triangles: Int32[np.ndarray, "triangles 3"]
    part: Int[np.ndarray, " triangles"]
    texels: Float32[np.ndarray, "triangles 3 2"]
    two_sided: Bool[np.ndarray, " triangles"]
    atlas: Float32[np.ndarray, "rows columns 3"]


class Shadows(NamedTuple):
    """How far the key light reaches.

    Attributes:
        depth: How near to the light the first surface is.
        axes: Right, up and forward of a viewer who looks at the face from the light.
        centre: The place in the middle of the map.
        scale: Texels that a decimetre spans.
        bias: Depth below which a shadow is ignored.
        softness: Depth over which it sets in.
    """

    depth: Float32[np.ndarray, "side side"]
    axes: Float32[np.ndarray, "3 3"]
    centre: Float32[np.ndarray, "3"]
    scale: float
    bias: float
    softness: float


class Illumination(NamedTuple):
    """All that the colour of a pixel depends on, apart from the surfaces.

    Attributes:
        vertices: Where the vertices are, in decimetres.
        normals: Their normals.
        eye: Where the camera is.
        lamps: Direction and colour of the key light and of the fill light, light from above and from below.
        shadows: How far the key light reaches.
        openness: How much light reaches each pixel past its surroundings.
        materials: How each part reflects light.
        wrap: How far each colour reaches around the shadow line.
    """

    vertices: Float32[np.ndarray, "vertices 3"]
    normals: Float32[np.ndarray, "vertices 3"]
    eye: Float32[np.ndarray, "3"]
    lamps: Float32[np.ndarray, "6 3"]
    shadows: Shadows
    openness: Float32[np.ndarray, "height width"]
    materials: Float32[np.ndarray, "parts 4"]
    wrap: Float32[np.ndarray, "3"]
