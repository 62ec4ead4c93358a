"""Faces are followed between searches of the whole frame: as right as searching each time; what is lost is searched."""

from pathlib import Path

import numpy as np
import pytest

from lipsound2 import faces, media
from lipsound2.corpora.folder import find_videos
from lipsound2.mtcnn import Mtcnn
from lipsound2.trails import Face, box_overlap

SHIFT = 3.0
"""Pixels of the crop's 160 by which its landmarks may be elsewhere in any frame."""


class Searching:
    """MTCNN that searches the whole frame each time it is asked, as it cannot follow."""

    def __init__(self) -> None:
        self.network = faces.MtcnnDetector()

    def detect(self, image: np.ndarray) -> list[Face]:
        return self.network.detect(image)


class Counting(faces.MtcnnDetector):
    """MTCNN that counts."""

    searched = followed = 0

    def detect(self, image: np.ndarray) -> list[Face]:
        self.searched += 1
        return super().detect(image)

    def follow(self, image: np.ndarray, known: list[Face]) -> list[Face] | None:
        self.followed += 1
        return super().follow(image, known)


def beside(left: Path, right: Path) -> list[media.Frame]:
    """Return frames of two people beside each other, one swaying and rising a little."""
    frames = []
    for (number, one), (_, other) in zip(media.stream_frames(left), media.stream_frames(right), strict=False):
        side = one.shape[0]
        image = np.full((side + 20, 3 * side, 3), 128, np.uint8)
        x, y = round(10 + 10 * np.sin(number / 6)), round(10 + 10 * np.cos(number / 9))
        image[y : y + side, x : x + side] = one
        image[10 : 10 + side, 2 * side :] = other[:side, :side]
        frames.append(media.Frame(number, image))
    return frames


def check_alike(frames: list[media.Frame]) -> int:
    """Check that following gives what searching gives, and return the tracks."""
    wanted = faces.find_tracks(frames, Searching()).tracks
    counting = Counting()
    found = faces.find_tracks(frames, counting).tracks
    assert [(track.start, track.stop) for track in found] == [(track.start, track.stop) for track in wanted]
    assert counting.searched <= 1 + len(frames) // faces.SEARCH
    assert counting.followed >= len(frames) // 5 - counting.searched
    for ours, theirs in zip(found, wanted, strict=True):
        overlaps = [box_overlap(a, b) for a, b in zip(ours.boxes, theirs.boxes, strict=True)]
        assert np.mean(overlaps) > 0.88
        assert min(overlaps) > 0.75
        centres = (ours.boxes - theirs.boxes).reshape(-1, 2, 2).mean(axis=1)
        side = np.sqrt(theirs.area)
        assert np.linalg.norm(centres, axis=1).max() < 0.08 * side
        shifts = [placed(a, b) for a, b in zip(ours.transforms(), theirs.transforms(), strict=True)]
        assert np.mean(shifts) < SHIFT / 3
        assert np.max(shifts) < SHIFT
    return len(found)


def placed(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return how far apart two transforms put the eyes, nose and mouth of a face, in pixels of the crop."""
    points = np.column_stack([faces.TEMPLATE, np.ones(5)]).T
    back = np.linalg.inv(np.vstack([theirs, [0, 0, 1]])) @ points
    return float(np.linalg.norm((ours @ back).T - faces.TEMPLATE, axis=1).max())


@pytest.mark.parametrize("number", [0, -1])
def test_a_face_is_followed_as_well_as_found_anew(clips, number):
    assert check_alike(list(media.stream_frames(find_videos(clips)[number]))) == 1


def test_two_people_are_followed_as_well_as_found_anew(clips):
    videos = find_videos(clips)
    assert check_alike(beside(videos[0], videos[-1])) == 2


def test_what_is_followed_is_where_it_moved(clips):
    frames = beside(find_videos(clips)[0], find_videos(clips)[-1])
    detector = faces.MtcnnDetector()
    before = detector.detect(frames[0].image)
    for image in (frames[4].image, np.roll(frames[4].image, (3, -6), axis=(0, 1))):
        wanted = detector.detect(image)
        found = detector.follow(image, before)
        assert found is not None
        for ours in found:
            theirs = max(wanted, key=lambda face: box_overlap(face.box, ours.box))
            assert np.abs(ours.landmarks - theirs.landmarks).mean() < 1.5
    assert detector.follow(np.full_like(frames[0].image, 128), before) is None


def test_a_face_at_the_edge_or_beyond_it_is_no_error(clips):
    image = next(media.stream_frames(find_videos(clips)[0])).image
    height, width = image.shape[:2]
    places = [(-40, -40), (width - 10, 5), (width + 50, height + 50), (-500, 0), (0, height - 1)]
    boxes = [np.array([x, y, x + 60.0, y + 60.0]) for x, y in places]
    found = Mtcnn().follow(image, [Face(box, 1.0) for box in boxes])
    assert len(found) == len(places)
    assert all(np.isfinite(face.box).all() and np.isfinite(face.points()).all() for face in found)


class Scripted:
    """Finds what a script says, searching and following, and notes which frames it did each in."""

    def __init__(self, there: dict[int, list[Face]], lost: set[int] = frozenset()) -> None:
        self.there, self.lost = there, lost
        self.searched: list[int] = []
        self.followed: list[int] = []

    def detect(self, image: np.ndarray) -> list[Face]:
        self.searched.append(int(image[0, 0, 0]))
        return self.there.get(int(image[0, 0, 0]), [face(20.0)])

    def follow(self, image: np.ndarray, known: list[Face]) -> list[Face] | None:
        number = int(image[0, 0, 0])
        self.followed.append(number)
        return None if number in self.lost else known


def face(x: float) -> Face:
    return Face(np.array([x, 10.0, x + 20, 30.0]), 1.0)


def watched(detector: Scripted, frames: int, cut_at: int | None = None) -> list[int]:
    """Return the frames that were looked at."""
    watch, looks = faces.Watch(detector, 5), []
    for number in range(frames):
        image = np.full((64, 64, 3), 10, np.uint8)
        if cut_at is not None and number >= cut_at:
            image[32:] = 200
        image[0, 0] = number
        if watch(number, image).faces is not None:
            looks.append(number)
    return looks


def test_the_whole_frame_is_searched_once_in_a_while():
    detector = Scripted({})
    assert watched(detector, 40) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert detector.searched == [0, 15, 30]
    assert detector.followed == [5, 10, 20, 25, 35]


def test_a_lost_face_is_searched_at_once_and_a_cut_too():
    detector = Scripted({}, lost={10})
    watched(detector, 30)
    assert detector.searched == [0, 10, 25]
    detector = Scripted({})
    assert watched(detector, 30, cut_at=7) == [0, 5, 7, 12, 17, 22, 27]
    assert detector.searched == [0, 7, 22]


def test_without_a_face_each_look_is_a_search():
    detector = Scripted({number: [] for number in range(20)})
    watched(detector, 30)
    assert detector.searched == [0, 5, 10, 15, 20]
    assert detector.followed == [25]


def test_two_faces_that_become_one_are_searched_for(clips):
    image = next(media.stream_frames(find_videos(clips)[0])).image
    detector = faces.MtcnnDetector()
    (one,) = detector.detect(image)
    assert detector.follow(image, [one]) is not None
    assert detector.follow(image, [one, Face(one.box + 4, one.score)]) is None
