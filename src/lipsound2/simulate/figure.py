"""An identity, a look and a pose -> where every vertex of a talking head is, and how it is coloured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial.transform import Rotation

from lipsound2.simulate.atlas import TILES, texels
from lipsound2.simulate.buffers import Surfaces
from lipsound2.simulate.hair import grow
from lipsound2.simulate.head import Head, Part, Vertices, centred, load_head
from lipsound2.simulate.mouth import Articulation, Mouth, face_units
from lipsound2.simulate.paint import Look, paint, shirt_depth
from lipsound2.simulate.raster import vertex_normals

NECK = np.array([0.0, -1.0, -0.75])
"""The point about which the head turns."""
SHIRT_THICKNESS = 0.03


class Pose(NamedTuple):
    """One moment of a talking head.

    Attributes:
        articulation: Where the speech organs are.
        units: Strengths of further face units, such as `eyeBlinkLeft`.
        turn: Yaw, pitch and roll of the head in degrees.
        shift: Movement of the whole body in decimetres.
    """

    articulation: Articulation = Articulation()
    units: Mapping[str, float] = MappingProxyType({})
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Identity:
    """The shape of a face: strengths of morphs by name, and of face units that it always bears."""

    morphs: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)


class Figure:
    """A talking head that takes poses.

    Args:
        identity: The shape of the face.
        look: Its colours and hair.
        rng: Where the patterns of skin and hair come from.
    """

    def __init__(self, identity: Identity, look: Look, rng: np.random.Generator) -> None:
        self._head = head = load_head()
        self._shape = _shaped(head, identity)
        self._mouth = Mouth(head, self._shape)
        self._always = identity.units
        hair = grow(head, self._shape, look.hair_length, look.curtain, look.hairline, rng)
        self._hair = hair.vertices
        self._turns = np.concatenate([_turn_share(head.rest), np.ones(len(hair.vertices))])
        surface = head.surface
        part = np.concatenate([surface.part, np.full(len(hair.triangles), Part.HAIR)])
        place = TILES[Part.HAIR].at(hair.place[..., 0], hair.place[..., 1])
        self.surfaces = Surfaces(
            np.concatenate([surface.triangles, hair.triangles + np.int32(len(head.rest))]),
            part.astype(np.int32),
            np.concatenate([texels(head), place]),
            np.isin(part, [Part.HAIR, Part.LASH]),
            paint(look, rng),
        )

    def vertices(self, pose: Pose) -> Float32[np.ndarray, "vertices 3"]:
        """Move the head into a pose; decimetres from the point between the eyes at rest."""
        face = self.face(pose)
        whole = np.concatenate([face, self._hair])
        turned = Rotation.from_euler("YXZ", pose.turn, degrees=True).apply(whole - NECK) + NECK
        share = self._turns[:, None]
        return (whole * (1 - share) + turned * share + pose.shift).astype(np.float32)

    def face(self, pose: Pose) -> Vertices:
        """Move the face, but not the head, into a pose."""
        strengths = np.zeros(len(self._head.units), np.float32)
        for units in (self._always, pose.units, face_units(pose.articulation)):
            for name, value in units.items():
                strengths[self._head.units.index(name)] += value
        moved = self._shape + (self._head.shapes @ strengths).reshape(-1, 3)
        return self._mouth.finish(moved, pose.articulation)

    def lip_gap(self, pose: Pose) -> float:
        """Measure how far the lips are apart in the middle of the mouth, in decimetres; negative if they overlap."""
        gap = self._mouth.gap(self.face(pose))
        return float(gap[len(gap) // 2 - 2 : len(gap) // 2 + 3].max())

    def lip_to_teeth(self, pose: Pose) -> float:
        """Measure how far below the edge of the upper front teeth the lower lip is, in decimetres."""
        return self._mouth.lip_to_teeth(self.face(pose))

    def mouth_width(self, pose: Pose) -> float:
        """Measure how far the corners of the mouth are apart, in decimetres."""
        return self._mouth.width(self.face(pose))


def _shaped(head: Head, identity: Identity) -> Vertices:
    shape = head.rest.copy()
    for name, strength in identity.morphs.items():
        shape += strength * head.morph(name)
    shape = centred(shape, head.groups)
    torso = np.unique(head.surface.triangles[head.surface.part == Part.TORSO])
    depth = shirt_depth(head.rest[torso, 0], head.rest[torso, 1])
    normals = vertex_normals(shape.astype(np.float32), head.surface.triangles)[torso]
    shape[torso] += normals * SHIRT_THICKNESS * np.clip(depth / 0.06 + 0.5, 0, 1)[:, None]
    return shape


def _turn_share(rest: Vertices) -> Float[np.ndarray, " vertices"]:
    """Return how much of the head's rotation each vertex follows: all of it above the neck, none below."""
    t = np.clip((rest[:, 1] + 0.35 * rest[:, 2] + 1.65) / 0.45, 0, 1)
    return t * t * (3 - 2 * t)
