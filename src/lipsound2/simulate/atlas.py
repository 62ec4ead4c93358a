"""The head's surface -> one picture that all its textures share, and where on the face each texel lies."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import distance_transform_edt

from lipsound2.simulate.buffers import NOTHING
from lipsound2.simulate.head import Head, Part, load_head, mask_image
from lipsound2.simulate.raster import rasterise

WIDTH, HEIGHT = 1024, 1216
SKIN_BOX = (0.637, 0.145, 0.998, 0.822)
"""Left, bottom, right and top of the head in the file's own texture."""
TORSO_BOX = (-2.4, -2.8, 2.4, -0.6)
"""Left, bottom, right and top of the torso's tile in decimetres."""
EYE_RADIUS = 0.15


class Tile(NamedTuple):
    """A rectangle of the atlas in texels."""

    left: int
    top: int
    width: int
    height: int

    def at(self, across: np.ndarray, down: np.ndarray) -> Float32[np.ndarray, "*shape 2"]:
        """Return the texels of places (0 to 1) in the tile, kept half a texel off its borders."""
        x = np.clip(across * self.width, 0.5, self.width - 0.5) + self.left
        y = np.clip(down * self.height, 0.5, self.height - 0.5) + self.top
        return np.stack([x, y], axis=-1).astype(np.float32)

    def view(self, image: np.ndarray) -> np.ndarray:
        """Cut the tile out of the atlas, without a copy."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


TILES = {
    Part.SKIN: Tile(0, 0, 648, 1216),
    Part.TORSO: Tile(648, 0, 376, 256),
    Part.HAIR: Tile(648, 256, 376, 512),
    Part.EYE: Tile(648, 768, 160, 160),
    Part.TEETH: Tile(808, 768, 192, 96),
    Part.TONGUE: Tile(648, 928, 64, 64),
    Part.MOUTH: Tile(712, 928, 64, 64),
    Part.SOCKET: Tile(776, 928, 64, 64),
    Part.LASH: Tile(840, 928, 64, 64),
}


class SkinMap(NamedTuple):
    """What lies under each texel of the skin tile.

    Attributes:
        place: The place on the average face at rest, in decimetres.
        masks: How much of `lips` and `ears` each texel bears, from 0 to 1.
    """

    place: Float32[np.ndarray, "height width 3"]
    masks: dict[str, Float32[np.ndarray, "height width"]]


def texels(head: Head) -> Float32[np.ndarray, "triangles 3 2"]:
    """Return the texel that each corner of each triangle shows."""
    corners = head.rest[head.surface.triangles]
    uv = head.surface.uv
    found = np.zeros(uv.shape, np.float32)
    places = {
        Part.SKIN: ((uv - SKIN_BOX[:2]) / np.subtract(SKIN_BOX[2:], SKIN_BOX[:2])) * [1, -1] + [0, 1],
        Part.TORSO: ((corners[..., :2] - TORSO_BOX[:2]) / np.subtract(TORSO_BOX[2:], TORSO_BOX[:2])) * [1, -1] + [0, 1],
        Part.EYE: _eye_places(head, corners),
        Part.TEETH: _teeth_places(head, corners),
    }
    for part in np.unique(head.surface.part):
        mine = head.surface.part == part
        place = places.get(part, np.full(uv.shape, 0.5))[mine]
        found[mine] = TILES[Part(part)].at(place[..., 0], place[..., 1])
    return found


@lru_cache(maxsize=1)
def skin_map() -> SkinMap:
    """Find what lies under each texel of the skin tile of the average head."""
    head = load_head()
    tile = TILES[Part.SKIN]
    place = _spread(head, texels(head), tile)
    left, bottom, right, top = SKIN_BOX
    masks = {}
    for name in ("lips", "ears"):
        image = mask_image(name)
        rows = slice(round((1 - top) * image.shape[0]), round((1 - bottom) * image.shape[0]))
        crop = image[rows, round(left * image.shape[1]) : round(right * image.shape[1])]
        masks[name] = cv2.resize(crop, (tile.width, tile.height), interpolation=cv2.INTER_LINEAR)
    return SkinMap(place, masks)


def _spread(head: Head, where: np.ndarray, tile: Tile) -> Float32[np.ndarray, "height width 3"]:
    """Interpolate the resting places over a tile, and repeat those at the rim of its islands outwards."""
    mine = head.surface.part == Part.SKIN
    triangles = head.surface.triangles[mine]
    flat = np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
    points = np.zeros((flat.size, 3), np.float32)
    points[:, :2] = where[mine].reshape(-1, 2)
    raster = rasterise(points, flat, np.ones(len(flat), bool), (tile.height, tile.width))
    empty = raster.triangle == NOTHING
    corners = head.rest[triangles][raster.triangle]
    second, third = raster.weights[..., :1], raster.weights[..., 1:]
    place = corners[..., 0, :] * (1 - second - third) + corners[..., 1, :] * second + corners[..., 2, :] * third
    rows, columns = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return place[rows, columns].astype(np.float32)


def _eye_places(head: Head, corners: Float[np.ndarray, "triangles 3 3"]) -> Float[np.ndarray, "triangles 3 2"]:
    """Look at each eye from the front: the pupil is in the middle of the tile."""
    places = np.full((*corners.shape[:2], 2), 0.5)
    for side in ("l", "r"):
        members = head.groups[f"helper-{side}-eye"]
        centre = head.rest[members].mean(axis=0)
        mine = np.isin(head.surface.triangles[:, 0], members)
        places[mine] = (corners[mine][..., :2] - centre[:2]) / (2 * EYE_RADIUS) * [1, -1] + 0.5
    return places


def _teeth_places(head: Head, corners: Float[np.ndarray, "triangles 3 3"]) -> Float[np.ndarray, "triangles 3 2"]:
    """Unroll the arch of the teeth: the upper row fills the upper half of the tile, its edge at the bottom."""
    around = np.arctan2(corners[..., 0], corners[..., 2] + 0.3) / np.pi + 0.5
    upper = np.isin(head.surface.triangles, head.groups["helper-upper-teeth"])
    down = np.where(upper, (-0.46 - corners[..., 1]) / 0.4, (-0.68 - corners[..., 1]) / 0.4 + 0.5)
    return np.stack([around, np.clip(down, np.where(upper, 0, 0.5), np.where(upper, 0.5, 1))], axis=-1)
