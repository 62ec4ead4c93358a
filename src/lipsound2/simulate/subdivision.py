"""A mesh of quads -> the sparse matrix that smooths it to four times as many (Catmull & Clark 1978).

The matrix depends on the connections alone, so one serves the neutral face and all its shapes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, diags, vstack

Quads = Int[np.ndarray, "quads 4"]


class Subdivision(NamedTuple):
    """Finer vertices are `matrix @ vertices`, finer quads index them, four in place of each coarse one."""

    matrix: csr_matrix
    quads: Int[np.ndarray, "fine 4"]


def subdivide(quads: Quads, vertices: int) -> Subdivision:
    """Smooth a mesh once; its borders are smoothed as curves of their own.

    Args:
        quads: Indices of each quad's corners in order.
        vertices: How many vertices the mesh has.
    """
    count = len(quads)
    corners = np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges, edge_of = np.unique(np.sort(corners, axis=1), axis=0, return_inverse=True)
    edge_of = edge_of.reshape(count, 4)
    faces = _incidence(np.repeat(np.arange(count), 4), quads.ravel(), (count, vertices)) / 4
    middles = _incidence(np.repeat(np.arange(len(edges)), 2), edges.ravel(), (len(edges), vertices)) / 2
    edge_faces = _incidence(edge_of.ravel(), np.repeat(np.arange(count), 4), (len(edges), count))
    inner = np.asarray(edge_faces.sum(axis=1)).ravel() == 2
    smooth = (middles + edge_faces @ faces / 2) / 2
    edge_points = diags(inner.astype(float)) @ smooth + diags((~inner).astype(float)) @ middles
    matrix = vstack([_vertex_points(quads, edges, inner, faces, middles, vertices), edge_points, faces]).tocsr()
    first_edge, first_face = vertices, vertices + len(edges)
    after, before = first_edge + edge_of, first_edge + np.roll(edge_of, 1, axis=1)
    centres = np.broadcast_to(first_face + np.arange(count)[:, None], (count, 4))
    return Subdivision(matrix, np.stack([quads, after, centres, before], axis=-1).reshape(-1, 4))


def subdivide_corners(values: Float[np.ndarray, "quads 4 dim"]) -> Float[np.ndarray, "fine 4 dim"]:
    """Refine values that belong to the corners of quads, such as texture coordinates, by halving."""
    after = (values + np.roll(values, -1, axis=1)) / 2
    before = np.roll(after, 1, axis=1)
    centres = np.broadcast_to(values.mean(axis=1, keepdims=True), values.shape)
    return np.stack([values, after, centres, before], axis=2).reshape(-1, 4, values.shape[-1])


def triangles(quads: Int[np.ndarray, "quads 4"]) -> Int[np.ndarray, "triangles 3"]:
    """Cut each quad into two triangles, which follow each other."""
    return np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], axis=1).reshape(-1, 3)


def _vertex_points(
    quads: Quads, edges: np.ndarray, inner: np.ndarray, faces: csr_matrix, middles: csr_matrix, vertices: int
) -> csr_matrix:
    around = _incidence(quads.ravel(), np.repeat(np.arange(len(quads)), 4), (vertices, len(quads)))
    along = _incidence(edges.ravel(), np.repeat(np.arange(len(edges)), 2), (vertices, len(edges)))
    valence = np.maximum(np.asarray(around.sum(axis=1)).ravel(), 1)
    identity = diags(np.ones(vertices))
    inside = diags(1 / valence) @ (
        diags(1 / valence) @ (around @ faces)
        + 2 * diags(1 / valence) @ (along @ middles)
        + diags(valence - 3.0) @ identity
    )
    rim = along @ diags((~inner).astype(float))
    on_rim = np.asarray(rim.sum(axis=1)).ravel() > 0
    border = (rim @ middles + 2 * identity) / 4
    return diags((~on_rim).astype(float)) @ inside + diags(on_rim.astype(float)) @ border


def _incidence(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
