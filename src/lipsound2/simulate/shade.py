"""Surfaces of pixels, an atlas and lights -> the colour of each pixel in linear light."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32

from lipsound2.simulate.buffers import FAR, Illumination, Raster, Shadows, Surfaces
from lipsound2.simulate.head import Part
from lipsound2.simulate.raster import kernels, rasterise, vertex_normals

Triple = tuple[float, float, float]

SHADOW_SIZE, SHADOW_SPAN = 320, 4.4
"""Side of the shadow map in texels and in decimetres."""
SHADOW_BIAS, SHADOW_SOFTNESS = 0.05, 0.04
"""Depth bias of shadows, and depth over which they fade in."""
SHADOW_CENTRE = np.array([0.0, -0.4, -0.5], np.float32)
MATERIALS = np.zeros((len(Part), 4), np.float32)
"""Of each part: specular strength and sharpness, wrapped diffuse light, ambient occlusion."""
for _part, _values in {
    Part.SKIN: (0.22, 14, 1.0, 1.0),
    Part.MOUTH: (0.10, 20, 0.3, 2.0),
    Part.TORSO: (0.05, 8, 0.6, 1.0),
    Part.SOCKET: (0.15, 20, 0.6, 1.0),
    Part.EYE: (1.20, 90, 0.4, 1.8),
    Part.LASH: (0.00, 10, 0.5, 0.3),
    Part.TEETH: (0.40, 40, 0.5, 0.8),
    Part.TONGUE: (0.35, 30, 0.5, 0.8),
    Part.HAIR: (0.06, 10, 0.6, 0.8),
}.items():
    MATERIALS[_part] = _values
WRAP = np.array([0.32, 0.16, 0.12], np.float32)
"""Reach of red, green and blue light past the shadow line of skin."""


@dataclass(frozen=True)
class Light:
    """The lights of a scene; directions point from the face to the light, colours are linear.

    Attributes:
        key: Direction of the main light, which casts shadows.
        key_colour: Its colour and strength.
        fill: Direction of the second light.
        fill_colour: Its colour and strength.
        above: Light from the sky or the ceiling.
        below: Light from the ground.
    """

    key: Triple = (0.4, 0.5, 0.8)
    key_colour: Triple = (0.85, 0.82, 0.78)
    fill: Triple = (-0.7, 0.1, 0.6)
    fill_colour: Triple = (0.18, 0.19, 0.21)
    above: Triple = (0.30, 0.31, 0.33)
    below: Triple = (0.16, 0.15, 0.14)


def illuminate(
    surfaces: Surfaces,
    vertices: Float32[np.ndarray, "vertices 3"],
    eye: Float32[np.ndarray, "3"],
    light: Light,
    openness: Float32[np.ndarray, "height width"],
) -> Illumination:
    """Return the illumination of an image.

    Args:
        surfaces: The drawn surfaces.
        vertices: Positions of its vertices in decimetres.
        eye: Position of the camera.
        light: The lights.
        openness: Result of `hollows` for the image.
    """
    shadows = _cast_shadows(surfaces, vertices, light.key)
    lamps = [shadows.axes[2], light.key_colour, _unit(light.fill), light.fill_colour, light.above, light.below]
    return Illumination(
        vertices,
        vertex_normals(vertices, surfaces.triangles),
        eye,
        np.array(lamps, np.float32),
        shadows,
        openness,
        MATERIALS,
        WRAP,
    )


def shade(
    raster: Raster, surfaces: Surfaces, scene: Illumination, backdrop: Float32[np.ndarray, "height width 3"]
) -> Float32[np.ndarray, "height width 3"]:
    """Shade every pixel that shows a surface; the others show the backdrop."""
    image = backdrop.copy()
    kernels().paint_pixels(image, raster, surfaces, scene)
    return image


def hollows(depth: Float32[np.ndarray, "height width"], scale: float) -> Float32[np.ndarray, "height width"]:
    """Return the ambient occlusion of each pixel: 1 in the open, towards 0 deep inside.

    Pixels behind the blurred depth around them are occluded (Luft, Colditz & Deussen 2006).
    """
    near = np.where(depth == FAR, np.float32(-1.6), depth).astype(np.float32)
    darkness = np.zeros_like(near)
    for width, strength in ((0.05, 3.0), (0.16, 2.2)):
        small = cv2.resize(near, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(small, (0, 0), max(0.5, width * scale / 2))
        around = cv2.resize(blurred, near.shape[::-1], interpolation=cv2.INTER_LINEAR)
        darkness += strength * np.clip(around - near - 0.01, 0, 0.6)
    return 1 / (1 + darkness)


def _unit(vector: Triple) -> Float[np.ndarray, "3"]:
    return np.asarray(vector) / np.linalg.norm(vector)


def _cast_shadows(surfaces: Surfaces, vertices: Float32[np.ndarray, "vertices 3"], direction: Triple) -> Shadows:
    forward = _unit(direction)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    scale = SHADOW_SIZE / SHADOW_SPAN
    middle = SHADOW_SIZE / 2
    points = ((vertices - SHADOW_CENTRE) @ axes.T) * [scale, -scale, 1] + [middle, middle, 0]
    size = (SHADOW_SIZE, SHADOW_SIZE)
    depth = rasterise(points.astype(np.float32), surfaces.triangles, surfaces.two_sided, size).depth
    return Shadows(depth, axes, SHADOW_CENTRE, scale, SHADOW_BIAS, SHADOW_SOFTNESS)
