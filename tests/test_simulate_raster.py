import numpy as np
import pytest

from lipsound2.simulate.buffers import FAR, NOTHING
from lipsound2.simulate.raster import rasterise, vertex_normals
from lipsound2.simulate.subdivision import subdivide, subdivide_corners, triangles

pytest.importorskip("numba", reason="numba is not installed")

ONE = np.array([[0, 1, 2]], np.int32)


def square(depth: float, low: float = 0, high: float = 8) -> np.ndarray:
    return np.array([[low, low, depth], [low, high, depth], [high, high, depth], [high, low, depth]], np.float32)


def test_a_triangle_covers_the_pixels_whose_centres_it_holds():
    points = np.array([[0, 0, 1], [0, 4, 1], [4, 0, 1]], np.float32)
    raster = rasterise(points, ONE, np.array([False]), (5, 5))
    expected = [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert ((raster.triangle == 0) == np.array(expected, bool)).all()
    assert raster.depth[0, 0] == 1
    assert raster.depth[4, 4] == np.float32(FAR)
    assert raster.weights[0, 0] == pytest.approx([1 / 8, 1 / 8])


def test_triangles_seen_from_behind_are_left_out_unless_two_sided():
    points = np.array([[0, 0, 1], [4, 0, 1], [0, 4, 1]], np.float32)
    assert (rasterise(points, ONE, np.array([False]), (5, 5)).triangle == NOTHING).all()
    assert (rasterise(points, ONE, np.array([True]), (5, 5)).triangle == 0).any()


def test_the_nearest_surface_wins_in_any_order():
    near, far = square(2.0, 2, 6), square(1.0)
    for points, front in ((np.concatenate([near, far]), 0), (np.concatenate([far, near]), 1)):
        faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
        raster = rasterise(points, faces, np.zeros(4, bool), (8, 8))
        assert raster.triangle[4, 4] // 2 == front
        assert raster.triangle[0, 0] // 2 == 1 - front
        assert (raster.triangle != NOTHING).all()


def test_normals_of_a_plane():
    plane = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    normals = vertex_normals(plane, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    assert normals == pytest.approx(np.tile([0, 0, 1], (4, 1)))


def test_a_subdivided_cube():
    vertices = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    fine = subdivide(quads, 8)
    smooth = fine.matrix @ vertices
    assert smooth.shape == (8 + 12 + 6, 3)
    assert fine.quads.shape == (24, 4)
    # A corner of valence 3 goes to (1/3 of the face points + 2/3 of the edges' middles) / 3 (Catmull & Clark 1978).
    assert smooth[0] == pytest.approx(np.full(3, 2 / 9))
    assert smooth[-1] == pytest.approx([0.5, 0.5, 1])
    assert smooth.mean(axis=0) == pytest.approx(np.full(3, 0.5))


def test_an_open_mesh_keeps_its_plane_and_its_middle():
    vertices = np.array([[x, y, 0] for y in range(3) for x in range(3)], float)
    quads = np.array([[0, 1, 4, 3], [1, 2, 5, 4], [3, 4, 7, 6], [4, 5, 8, 7]])
    fine = subdivide(quads, 9)
    smooth = fine.matrix @ vertices
    assert smooth[4] == pytest.approx([1, 1, 0])
    assert smooth[1] == pytest.approx([1, 0, 0])
    assert np.abs(smooth[:, 2]).max() == 0
    corners = subdivide_corners(vertices[quads])
    assert len(corners) == len(fine.quads) == 16
    assert corners.mean(axis=(0, 1)) == pytest.approx([1, 1, 0])
    assert len(triangles(fine.quads)) == 32
