"""A figure in a pose, a camera and lights -> a picture in linear light."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from lipsound2.simulate.buffers import Raster
from lipsound2.simulate.figure import Figure, Pose
from lipsound2.simulate.raster import rasterise
from lipsound2.simulate.shade import Light, hollows, illuminate, shade

HEAD_HEIGHT = 2.3
"""Decimetres from the chin to the crown."""
HEAD_MIDDLE = 0.03
"""How far above the eyes the middle of the head is."""
SUPERSAMPLING = 2

Picture = Float32[np.ndarray, "size size 3"]


@dataclass(frozen=True)
class Camera:
    """A camera that looks at the face.

    Attributes:
        size: Side of the picture in pixels.
        share: Share of the picture's height that the head fills.
        distance: Decimetres from the eyes to the camera.
        offset: Shift of the head from the middle of the picture, right and up, in picture heights.
    """

    size: int = 256
    share: float = 0.62
    distance: float = 10.0
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def pixels_per_decimetre(self) -> float:
        """How many pixels a decimetre at the eyes spans."""
        return self.share * self.size / HEAD_HEIGHT


def look(figure: Figure, vertices: Float32[np.ndarray, "vertices 3"], camera: Camera) -> Raster:
    """Find what each pixel sees of a figure, at `SUPERSAMPLING` times the camera's resolution."""
    side = camera.size * SUPERSAMPLING
    scale = camera.pixels_per_decimetre * SUPERSAMPLING * camera.distance / (camera.distance - vertices[:, 2])
    points = np.stack(
        [
            side * (0.5 + camera.offset[0]) + vertices[:, 0] * scale,
            side * (0.5 - camera.offset[1]) - (vertices[:, 1] - HEAD_MIDDLE) * scale,
            vertices[:, 2],
        ],
        axis=1,
    )
    surfaces = figure.surfaces
    return rasterise(points.astype(np.float32), surfaces.triangles, surfaces.two_sided, (side, side))


def take(figure: Figure, pose: Pose, camera: Camera, light: Light, backdrop: Picture) -> Picture:
    """Take a picture; edges are smoothed by drawing it larger first.

    Args:
        figure: Who is seen.
        pose: In which pose.
        camera: From where.
        light: In which light.
        backdrop: What is seen behind, in linear light.
    """
    vertices = figure.vertices(pose)
    raster = look(figure, vertices, camera)
    openness = hollows(raster.depth, camera.pixels_per_decimetre * SUPERSAMPLING)
    eye = np.array([0, HEAD_MIDDLE, camera.distance], np.float32)
    scene = illuminate(figure.surfaces, vertices, eye, light, openness)
    behind = cv2.resize(backdrop, raster.depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    image = shade(raster, figure.surfaces, scene, behind)
    return cv2.resize(image, (camera.size, camera.size), interpolation=cv2.INTER_AREA)
