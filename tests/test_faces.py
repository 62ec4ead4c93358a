from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from lipsound2 import faces
from lipsound2.errors import FaceError
from lipsound2.media import Frame
from lipsound2.trails import box_overlap

YUNET = Path(__file__).parents[2] / "shared" / "models" / "yunet_n_320_320.onnx"


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """The photograph of Grace Hopper that matplotlib ships, 512 pixels wide."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="session")
def mtcnn() -> faces.MtcnnDetector:
    return faces.MtcnnDetector()


class Scripted:
    """A detector that says what a script says of each picture, which carries its index in its pixels."""

    def __init__(self, script):
        self.script = script
        self.asked = []

    def detect(self, image):
        index = int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])
        self.asked.append(index)
        return self.script(index)


def numbered(count: int, cut_at: int | None = None) -> list[Frame]:
    frames = []
    for index in range(count):
        image = np.zeros((90, 120, 3), np.uint8)
        if cut_at is not None and index >= cut_at:
            image[:, ::2] = 0
            image[30:60] = 255
        image[0, 0] = (index % 256, index // 256, 0)
        frames.append(Frame(index, image))
    return frames


def face_at(x: float, y: float = 40.0, size: float = 20.0) -> faces.Face:
    box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2])
    return faces.Face(box, 1.0)


def test_a_moving_face_is_one_track_interpolated_between_detections():
    detector = Scripted(lambda i: [face_at(20 + i)])
    tracking = faces.find_tracks(numbered(23), detector, every=5)
    assert detector.asked == [0, 5, 10, 15, 20]
    (track,) = tracking.tracks
    assert (track.start, len(track), track.bridged) == (0, 23, 0)
    centers = (track.boxes[:, 0] + track.boxes[:, 2]) / 2
    np.testing.assert_allclose(centers[:21], 20 + np.arange(21))
    np.testing.assert_allclose(centers[21:], 40)


def test_a_short_miss_is_bridged_and_a_long_one_ends_the_track():
    seen = faces.find_tracks(numbered(60), Scripted(lambda i: [] if 20 <= i < 30 else [face_at(20)]), 5, bridge=25)
    assert [(t.start, t.stop) for t in seen.tracks] == [(0, 60)]
    assert seen.tracks[0].bridged == 14
    lost = faces.find_tracks(numbered(90), Scripted(lambda i: [] if 20 <= i < 60 else [face_at(20)]), 5, bridge=25)
    assert [(t.start, t.stop) for t in lost.tracks] == [(0, 16), (60, 90)]


def test_a_scene_cut_ends_every_track_and_asks_the_detector_at_once():
    detector = Scripted(lambda i: [face_at(20 if i < 12 else 90)])
    tracking = faces.find_tracks(numbered(30, cut_at=12), detector, every=5)
    assert tracking.cuts == [12]
    assert detector.asked == [0, 5, 10, 12, 17, 22, 27]
    assert [(t.start, t.stop) for t in tracking.tracks] == [(0, 12), (12, 30)]


def test_two_faces_that_pass_keep_their_tracks():
    detector = Scripted(lambda i: [face_at(20 + i, 20), face_at(80 - i, 60)][:: 1 if i % 2 else -1])
    tracks = faces.find_tracks(numbered(50), detector, every=3).tracks
    assert len(tracks) == 2
    assert all(len(t) == 50 for t in tracks)
    assert all(np.abs(np.diff(t.boxes[:, 1])).max() < 1e-9 for t in tracks)


def test_choosing_a_face():
    detector = Scripted(lambda i: [face_at(20, size=16), face_at(90, size=30)])
    tracking = faces.find_tracks(numbered(20), detector)
    left, right = tracking.tracks
    assert faces.select(tracking, "largest")[0][0].center[0] == 90
    assert faces.select(tracking, "left")[0][0].center[0] == 20
    assert faces.select(tracking, "right")[0][0].center[0] == 90
    assert [tracks[0].center[0] for tracks in faces.select(tracking, "all")] == [20, 90]
    assert faces.select(tracking, "2") == [[right]]
    assert left.center[0] == 20
    for wrong in ("0", "3", "-1", "biggest"):
        with pytest.raises(FaceError):
            faces.select(tracking, wrong)


def test_the_largest_face_is_followed_over_cuts_without_overlap():
    detector = Scripted(lambda i: [face_at(20)] if i < 12 else [face_at(90, size=30), face_at(30, size=10)])
    tracking = faces.find_tracks(numbered(30, cut_at=12), detector)
    (tracks,) = faces.select(tracking, "largest")
    assert [(t.start, t.stop, round(t.center[0])) for t in tracks] == [(0, 12, 20), (12, 30, 90)]


def test_no_face_is_one_error_with_a_hint():
    tracking = faces.find_tracks(numbered(10), Scripted(lambda i: []))
    with pytest.raises(FaceError, match="no face found in the whole video") as caught:
        faces.select(tracking, "largest")
    assert caught.value.hint


def test_similarity_recovers_turn_scale_and_shift():
    points = np.random.default_rng(0).normal(size=(5, 2))
    angle, scale = 0.3, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ turn.T + [3, -2]
    found = faces.similarity(points, moved)
    np.testing.assert_allclose(found, np.column_stack([turn, [3, -2]]), atol=1e-12)


def test_mtcnn_finds_the_face_with_landmarks_in_order(portrait, mtcnn):
    (face,) = mtcnn.detect(portrait)
    left_eye, right_eye, nose, mouth_left, mouth_right = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert mouth_left[0] < mouth_right[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    left, top, right, bottom = face.box
    assert left < left_eye[0] < right
    assert top < mouth_left[1] < bottom


def test_a_picture_without_a_face_has_none(mtcnn):
    rng = np.random.default_rng(0)
    assert mtcnn.detect(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)) == []
    assert mtcnn.detect(np.zeros((20, 20, 3), np.uint8)) == []


@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (15, 0.5), (-20, 0.8), (0, 2.5)])
def test_crops_are_upright_whatever_the_turn_and_size(portrait, mtcnn, angle, scale):
    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    image = cv2.warpAffine(portrait, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frames = [Frame(i, image) for i in range(6)]
    (track,) = faces.select(faces.find_tracks(frames, mtcnn), "largest")[0]
    crops = list(faces.crop_faces(frames, track))
    assert len(crops) == 6
    assert crops[0].shape == (faces.CANVAS, faces.CANVAS, 3)
    (again,) = mtcnn.detect(crops[0])
    assert np.abs(again.landmarks - faces.TEMPLATE).mean() < 5


def test_faces_without_landmarks_are_cropped_by_their_box():
    face = faces.Face(np.array([100.0, 50.0, 200.0, 200.0]), 1.0)
    np.testing.assert_allclose(face.points() - [100, 50], faces.TEMPLATE - [30, 5])


def test_smoothing_takes_away_jitter():
    rng = np.random.default_rng(0)
    points = faces.TEMPLATE + rng.normal(size=(50, 5, 2))
    track = faces.FaceTrack(0, np.tile([0.0, 0, 160, 160], (50, 1)), points)
    rough, smooth = track.transforms(0.01), track.transforms(5.0)
    assert smooth[:, :, 2].std(axis=0).max() < 0.4 * rough[:, :, 2].std(axis=0).min()


@pytest.mark.skipif(not YUNET.is_file(), reason=f"no YuNet weights at {YUNET}")
def test_yunet_agrees_with_mtcnn(portrait, mtcnn):
    (ours,), (theirs,) = mtcnn.detect(portrait), faces.YuNetDetector(YUNET).detect(portrait)
    assert box_overlap(ours.box, theirs.box) > 0.5
    eye_distance = np.linalg.norm(ours.landmarks[1] - ours.landmarks[0])
    assert np.abs(ours.landmarks - theirs.landmarks).max() < 0.25 * eye_distance


def test_yunet_without_its_file_is_one_error(tmp_path):
    with pytest.raises(FaceError, match="no such file"):
        faces.YuNetDetector(tmp_path / "missing.onnx")
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a network")
    with pytest.raises(FaceError, match="not a YuNet model"):
        faces.YuNetDetector(wrong)


@pytest.mark.parametrize("frames", [1, 7, 100])
def test_landmarks_are_smoothed_as_scipy_does_it(frames):
    points = np.random.default_rng(0).uniform(0, 300, (frames, 5, 2))
    expected = gaussian_filter1d(points, 5.0, axis=0, mode="nearest")
    np.testing.assert_allclose(faces.smoothed(points, 5.0), expected, rtol=0, atol=1e-11)
