"""A hair style -> surfaces over the head that are drawn like any other part.

Short hair is the scalp itself, lifted; long hair is a curtain that hangs down behind the face.
Angles around the head count from the front, lengths are decimetres.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32

from lipsound2.simulate.head import Head, Part, Vertices, vertex_mask
from lipsound2.simulate.raster import vertex_normals
from lipsound2.simulate.subdivision import triangles

AXIS_DEPTH = -0.6
"""Where the upright axis of the head lies behind the eyes."""
# fmt: off
HAIRLINE = np.array(
    [
        (0, 0.64), (30, 0.64), (45, 0.55), (58, 0.35), (70, 0.15), (80, -0.15),
        (88, -0.20), (95, 0.05), (115, 0.05), (125, -0.35), (140, -0.75), (180, -0.85),
    ]
)
# fmt: on
"""Angle in degrees, and the height at which hair begins there."""
THICKEST = 0.2
CURTAIN_FROM = 62.0
"""Degrees from the front at which long hair begins to hang."""


class Hair(NamedTuple):
    """Surfaces of hair; `place` is where each corner lies in the picture of strands, from 0 to 1."""

    vertices: Float[np.ndarray, "vertices 3"]
    triangles: Int32[np.ndarray, "triangles 3"]
    place: Float32[np.ndarray, "triangles 3 2"]


def scalp_depth(places: Vertices, hairline: float = 0.0) -> Float[np.ndarray, " vertices"]:
    """Return how far above the hairline places of the average face are; negative where no hair grows."""
    angle = np.degrees(_angle(places))
    receding = hairline * np.clip(1 - angle / 75, 0, 1)
    return places[:, 1] - np.interp(angle, *HAIRLINE.T) - receding


def grow(head: Head, shape: Vertices, length: float, curtain: float, hairline: float, rng: np.random.Generator) -> Hair:
    """Grow hair on a head.

    Args:
        head: The average head, which tells where hair grows.
        shape: The vertices of the head that gets it.
        length: Thickness of the hair over the scalp, from 0 to 1.
        curtain: How far long hair reaches below the eyes; 0 for none.
        hairline: How far the hair begins behind the usual line.
        rng: Where the waves come from.
    """
    parts = [_shell(head, shape, length, hairline, rng)]
    if curtain > 0:
        parts.append(_curtain(curtain, _half_width(head, shape), rng))
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    return Hair(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=False)]).astype(np.int32),
        np.concatenate([part.place for part in parts]).astype(np.float32),
    )


def _shell(head: Head, shape: Vertices, length: float, hairline: float, rng: np.random.Generator) -> Hair:
    depth = scalp_depth(head.rest, hairline)
    depth[vertex_mask(head, "ears") > 0.1] = -1
    corners = head.surface.triangles[(head.surface.part == Part.SKIN)]
    corners = corners[(depth[corners] > 0.05).all(axis=1)]
    used, faces = np.unique(corners, return_inverse=True)
    normals = vertex_normals(shape.astype(np.float32), head.surface.triangles)[used]
    angle, height = _angle(head.rest[used]), head.rest[used, 1]
    waves = sum(
        rng.uniform(0.2, 1) * np.sin(rng.uniform(2, 9) * angle + rng.uniform(-6, 6) * height + rng.uniform(0, 6))
        for _ in range(5)
    )
    rise = np.clip((depth[used] - 0.05) / 0.3, 0, 1)
    lift = 0.006 + THICKEST * length * rise * rise * (3 - 2 * rise) * (1 + 0.10 * waves)
    place = np.stack([angle * np.sign(head.rest[used, 0]) / (2 * np.pi) + 0.5, (1.3 - height) / 3], axis=-1)
    faces = faces.reshape(-1, 3)
    return Hair(shape[used] + normals * lift[:, None], faces.astype(np.int32), place[faces])


def _half_width(head: Head, shape: Vertices) -> float:
    """Measure half the width of the skull above the ears."""
    above = (head.rest[:, 1] > 0.15) & (head.rest[:, 1] < 0.4)
    return float(np.abs(shape[above, 0]).max())


def _curtain(reach: float, half_width: float, rng: np.random.Generator) -> Hair:
    angles = np.radians(np.linspace(CURTAIN_FROM, 360 - CURTAIN_FROM, 49))
    down = np.linspace(0, 1, 25)[:, None]
    tips = reach + 0.06 * np.sin(angles * rng.uniform(5, 9)) + rng.uniform(-0.05, 0.05, len(angles))
    height = 0.7 - down * (0.7 + tips)
    # The upper rim lies inside the short hair, out of which the curtain comes.
    emerging = 1 - 0.25 * np.clip(height / 0.7, 0, 1) ** 2
    waves = 1 + 0.02 * np.sin(angles * rng.uniform(8, 14) + 3 * height) + rng.uniform(-0.008, 0.008, height.shape)
    flare = 1 + 0.10 * np.clip(-height, 0, 1)
    width, back = (half_width + 0.13) * emerging * waves * flare, 1.16 * emerging * waves
    vertices = np.stack(
        [width * np.sin(angles), height, AXIS_DEPTH + back * np.cos(angles)],
        axis=-1,
    )
    rows, columns = height.shape
    index = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], axis=-1).reshape(-1, 4)
    place = np.stack([np.broadcast_to(angles / (2 * np.pi), height.shape), (1.3 - height) / 3], axis=-1).reshape(-1, 2)
    faces = triangles(quads)
    return Hair(vertices.reshape(-1, 3), faces.astype(np.int32), place[faces])


def _angle(places: Vertices) -> Float[np.ndarray, " vertices"]:
    """Measure the angle around the head from the front, the same on both sides, in radians."""
    return np.arctan2(np.abs(places[:, 0]), places[:, 2] - AXIS_DEPTH)
