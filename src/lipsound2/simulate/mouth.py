"""An articulation -> face units, and the geometry they leave undone: sealed lips, lip on teeth, tongue.

The face units were drawn for the average face, so on another one the lips would miss each other by a
millimetre. Here the distance between the lips is measured on the moved mesh and taken away.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lipsound2.simulate.head import Head, Part, Vertices, vertex_mask

JAW_RANGE = 0.42
"""Strength of the face unit `jawOpen` at the widest opening of speech."""
COLUMNS = np.linspace(-0.24, 0.24, 17)
"""Where across the mouth the gap between the lips is measured, in decimetres."""
OVERLAP = 0.006
"""How deep sealed lips are pressed into each other."""
REACH = 0.09
"""How far from the line between the lips the skin still follows them."""
TEETH_WIDTH, TONGUE_WIDTH = 0.9, 0.8
"""Of the file's own, so that the molars stay inside the cheeks."""
TEETH_SHOWN, TEETH_BEHIND = 0.025, 0.065
"""How far the upper front teeth reach below the upper lip at rest, and how far they stand behind it."""
TONGUE_SUNK = np.array([0.0, -0.09, 0.0])


class Articulation(NamedTuple):
    """Where the speech organs are; 0 is at rest (lips just apart) and 1 the extreme of speech.

    Attributes:
        jaw: Opening of the jaw.
        close: Lips pressed together, whatever the jaw does.
        tuck: Lower lip against the upper teeth.
        pucker: Lips drawn together and forward, as in "two".
        funnel: Lips open and forward, as in "she".
        wide: Corners of the mouth drawn apart, as in "see".
        upper: Upper lip raised off the teeth.
        lower: Lower lip lowered off the teeth.
        tip: Tip of the tongue at the gum behind the upper teeth.
        between: Tip of the tongue between the teeth.
        body: Back of the tongue raised.
    """

    jaw: float = 0.0
    close: float = 0.0
    tuck: float = 0.0
    pucker: float = 0.0
    funnel: float = 0.0
    wide: float = 0.0
    upper: float = 0.0
    lower: float = 0.0
    tip: float = 0.0
    between: float = 0.0
    body: float = 0.0


def face_units(at: Articulation) -> dict[str, float]:
    """Return the strength of each face unit that an articulation needs."""
    jaw = JAW_RANGE * at.jaw
    units = {
        "jawOpen": jaw,
        "mouthClose": jaw * at.close,
        "mouthPucker": at.pucker,
        "mouthFunnel": at.funnel,
        "mouthRollLower": 0.5 * at.tuck + 0.2 * at.close,
        "mouthRollUpper": 0.15 * at.close,
    }
    sided = {
        "mouthStretch": 0.7 * at.wide,
        "mouthSmile": 0.22 * at.wide,
        "mouthUpperUp": at.upper + 0.4 * at.tuck,
        "mouthLowerDown": at.lower,
        "mouthPress": 0.2 * at.close,
    }
    return units | {name + side: value for name, value in sided.items() for side in ("Left", "Right")}


class Mouth:
    """Finish the mouth of a head after its face units have moved it.

    Args:
        head: The average head.
        shape: The vertices at rest of the head that is to be moved.
    """

    def __init__(self, head: Head, shape: Vertices) -> None:
        rest = head.rest
        falls = -head.shapes[:, head.units.index("jawOpen")].toarray().reshape(-1, 3)[:, 1]
        lips = np.flatnonzero(vertex_mask(head, "lips") > 0.5)
        lower = falls[lips] > 0.12
        self._upper_edge = _edge(rest, lips[~lower], lowest=True)
        self._lower_edge = _edge(rest, lips[lower], lowest=False)
        near = (np.abs(rest - [0, rest[self._upper_edge, 1].mean(), 0.2]) < [0.4, 0.35, 0.35]).all(axis=1)
        near &= np.isin(np.arange(len(rest)), np.unique(head.surface.triangles[head.surface.part <= Part.MOUTH]))
        self._near = np.flatnonzero(near)
        self._across = rest[self._near, 0]
        self._is_lower = falls[self._near] > 0.12
        self._weight = self._closeness(rest)
        self._teeth = head.groups["helper-upper-teeth"]
        self._tongue = head.groups["helper-tongue"]
        along = rest[self._tongue, 2]
        self._tip_share = np.clip(((along - along.min()) / np.ptp(along) - 0.55) / 0.45, 0, 1) ** 1.5
        self._body_share = np.exp(-((((along - along.min()) / np.ptp(along) - 0.45) / 0.25) ** 2))
        self._fitted = self._fit(head, shape)

    def finish(self, vertices: Vertices, at: Articulation) -> Vertices:
        """Move lips, teeth and tongue, in place.

        Returns:
            `vertices`.
        """
        for members, offset in self._fitted:
            vertices[members] += offset
        self._move_tongue(vertices, at)
        self._tuck_lip(vertices, at.tuck)
        self._seal(vertices, at.close)
        return vertices

    def gap(self, vertices: Vertices) -> Float[np.ndarray, " columns"]:
        """Measure how far the lips are apart at each of `COLUMNS`, in decimetres; negative where they overlap."""
        return vertices[self._upper_edge, 1] - vertices[self._lower_edge, 1]

    def lip_to_teeth(self, vertices: Vertices) -> float:
        """Measure how far below the edge of the upper front teeth the lower lip is, in decimetres."""
        middle = self._lower_edge[len(COLUMNS) // 2]
        return float(self._teeth_edge(vertices)[1] - vertices[middle, 1])

    def width(self, vertices: Vertices) -> float:
        """Measure how far the corners of the mouth are apart, in decimetres."""
        return float(np.linalg.norm(vertices[self._upper_edge[-1]] - vertices[self._upper_edge[0]]))

    def _seal(self, vertices: Vertices, strength: float) -> None:
        gap = strength * (self.gap(vertices) + OVERLAP)
        move = np.interp(self._across, COLUMNS, gap) * self._weight
        vertices[self._near, 1] += move * np.where(self._is_lower, 0.6, -0.4)

    def _tuck_lip(self, vertices: Vertices, strength: float) -> None:
        lip = vertices[self._lower_edge]
        edge = self._teeth_edge(vertices)
        arch = np.clip(1 - (COLUMNS / 0.26) ** 2, 0, 1)
        for axis, target in ((1, edge[1] + 0.015), (2, edge[2] + 0.035)):
            wanted = strength * arch * (target - lip[:, axis])
            move = np.interp(self._across, COLUMNS, wanted) * self._weight
            vertices[self._near, axis] += move * self._is_lower

    def _fit(self, head: Head, shape: Vertices) -> list[tuple[np.ndarray, np.ndarray]]:
        """Place teeth and tongue behind the lips of this face: which vertices, and how far they are moved."""
        lip = shape[self._upper_edge[len(COLUMNS) // 2]]
        shift = lip - [lip[0], TEETH_SHOWN, TEETH_BEHIND] - self._teeth_edge(shape)
        shift[0] = 0
        fitted = []
        for name, width in (("upper-teeth", TEETH_WIDTH), ("lower-teeth", TEETH_WIDTH), ("tongue", TONGUE_WIDTH)):
            members = head.groups[f"helper-{name}"]
            offset = shape[members] * [width - 1, 0.0, 0.0] + shift
            if name == "tongue":
                offset += TONGUE_SUNK
            if name == "lower-teeth":
                # The file's lower molars stand so high that a turned head would show them between the lips.
                height = shape[members, 1]
                front = height[shape[members, 2] > shape[members, 2].max() - 0.05].max()
                offset[:, 1] += np.minimum(front - height, 0)
            fitted.append((members, offset))
        return fitted

    def _teeth_edge(self, vertices: Vertices) -> Float[np.ndarray, "3"]:
        """Find the edge of the upper front teeth."""
        upper = vertices[self._teeth]
        front = upper[upper[:, 2] > upper[:, 2].max() - 0.05]
        return np.array([0, front[:, 1].min(), front[:, 2].max()])

    def _move_tongue(self, vertices: Vertices, at: Articulation) -> None:
        tongue = vertices[self._tongue]
        edge = self._teeth_edge(vertices)
        tip = tongue[np.argmax(tongue[:, 2])]
        for strength, above, before in ((at.tip, 0.0, -0.07), (at.between, -0.01, 0.04)):
            target = np.add(edge, [0, above, before])
            tongue[:, 1:] += strength * self._tip_share[:, None] * (target - tip)[1:]
        tongue[:, 1] += 0.08 * at.body * self._body_share
        vertices[self._tongue] = tongue

    def _closeness(self, rest: Vertices) -> Float[np.ndarray, " near"]:
        """Weigh each vertex by its distance from the edge of its own lip, 1 on the edge."""
        away = np.zeros(len(self._near))
        for is_lower, edge in ((False, self._upper_edge), (True, self._lower_edge)):
            mine = self._is_lower == is_lower
            for axis in (1, 2):
                line = np.interp(self._across[mine], COLUMNS, rest[edge, axis])
                away[mine] += (rest[self._near[mine], axis] - line) ** 2
        beyond = np.clip(np.abs(self._across) - COLUMNS[-1], 0, None)
        return np.exp(-away / REACH**2 - (beyond / 0.04) ** 2)


def _edge(rest: Vertices, members: np.ndarray, lowest: bool) -> np.ndarray:
    """Choose, near each of `COLUMNS`, the lip's vertex that touches the other lip."""
    sign = 1 if lowest else -1
    chosen = []
    for column in COLUMNS:
        near = members[np.abs(rest[members, 0] - column) < 0.02]
        chosen.append(near[np.argmin(sign * rest[near, 1])])
    return np.array(chosen)
