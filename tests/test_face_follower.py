import cv2
import numpy as np
import pytest

from lipsound2.faces import CANVAS, Face, FaceTrack, crop_faces
from lipsound2.live.face import PATIENCE, FaceFollower
from lipsound2.media import Frame

IMAGE = np.zeros((48, 64, 3), np.uint8)


def box(left: float, top: float, size: float) -> Face:
    return Face(np.array([left, top, left + size, top + size], np.float64), 1.0)


class Script:
    """A detector that finds what is written for each call."""

    def __init__(self, *found: list[Face]) -> None:
        self.found = list(found)
        self.calls = 0

    def detect(self, image):
        self.calls += 1
        return self.found[min(self.calls, len(self.found)) - 1]


def test_the_largest_face_is_taken_and_kept():
    detector = Script([box(0, 0, 10), box(30, 0, 20)], [box(0, 0, 30), box(32, 0, 20)], [])
    follower = FaceFollower(detector, 25, 31)
    (crop,) = follower(IMAGE).crops(1)
    assert crop.shape == (CANVAS, CANVAS, 3)
    while detector.calls < 2:
        follower(IMAGE)
    assert follower._face.box[0] == 32
    lost = 0
    while follower(IMAGE) is not None:
        lost += 1
    assert PATIENCE - 5 <= lost <= 2 * PATIENCE


class Moving:
    """A detector of a face that moves back and forth, so many times as large."""

    def __init__(self, size: int) -> None:
        self.size = size

    def place(self, number):
        left, top = 20 + 8 * np.sin(number / 4), 10 + 4 * np.cos(number / 5)
        return box(self.size * left, self.size * top, self.size * 40)

    def detect(self, image):
        return [self.place(int(image[0, 0, 0]))]


@pytest.mark.parametrize(("every", "size"), [(1, 1), (4, 1), (2, 8)])
def test_what_follows_makes_crops_those_of_the_whole_file(every, size):
    """Of a frame that 12 others follow, and of one that none does."""
    rng = np.random.default_rng(0)
    noise = [cv2.GaussianBlur(rng.integers(0, 255, (80, 100, 3), np.uint8), (0, 0), 3) for _ in range(40)]
    images = [cv2.resize(image, None, fx=size, fy=size) for image in noise]
    for number, image in enumerate(images):
        image[0, 0, 0] = number
    detector = Moving(size)
    follower = FaceFollower(detector, 25, 31)
    follower._pace = lambda took: setattr(follower._watch, "every", every)
    seen = [follower(image) for image in images]
    faces = [detector.place(number) for number in range(40)]
    track = FaceTrack(0, np.stack([face.box for face in faces]), np.stack([face.points() for face in faces]))
    whole = list(crop_faces([Frame(number, image) for number, image in enumerate(images)], track))

    def error(crop, number):
        return np.abs(crop.astype(float) - whole[number]).mean()

    late = np.mean([error(seen[number + 12].crops(13)[0], number) for number in range(8, 28)])
    soon = np.mean([error(seen[number].crops(1)[0], number) for number in range(8, 28)])
    assert late < 0.8 < 3 < soon, (late, soon)


def test_an_empty_picture_has_no_face_and_is_looked_at_now_and_then():
    detector = Script([])
    follower = FaceFollower(detector, 25, 31)
    assert all(follower(IMAGE) is None for _ in range(50))
    assert 2 <= detector.calls <= 11
