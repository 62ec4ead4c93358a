import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_model import make, tiny

import lipsound2
from lipsound2.corpora.folder import find_videos
from lipsound2.errors import CheckpointError, DataError
from lipsound2.inference.pipeline import Pipeline
from lipsound2.packs import find_pack
from lipsound2.packs.familiarity import STATISTICS_NAME, Familiarity, Layer, load_familiarity, observe
from lipsound2.runtime.weights import save_weights
from lipsound2.text.alphabet import Transcript
from lipsound2.text.subtitles import to_vtt
from lipsound2.training.familiarity import calibrate, features, fit, make_familiarity
from lipsound2.vocoder import GriffinLim

EXAMPLES = Path(__file__).parents[1] / "examples"


def clouds(centres: list[float], count: int, seed: int) -> dict[str, list[torch.Tensor]]:
    noise = torch.Generator().manual_seed(seed)
    return {str(c): [c + torch.randn(20, generator=noise) for _ in range(count)] for c in centres}


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    statistics = fit(clouds([0.0, 8.0], 60, 0))
    known = [clip for clips in clouds([0.0, 8.0], 30, 1).values() for clip in clips]
    return Familiarity(statistics, calibrate(statistics, Layer(), known, clouds([-8.0], 20, 2)["-8.0"]))


def test_clips_of_known_speakers_are_known_and_others_not(familiarity):
    for clips in clouds([0.0, 8.0], 100, 3).values():
        assert np.mean([familiarity(clip) >= 0.5 for clip in clips]) >= 0.95
    for clips in clouds([-9.0, 20.0], 100, 4).values():
        assert np.mean([familiarity(clip) < 0.5 for clip in clips]) >= 0.8
    assert familiarity.note(0.9, "mine") is None
    assert "mine" in familiarity.note(0.03, "mine")
    assert 0 <= familiarity(torch.full((20,), 1e6)) < 1e-6


def test_the_distance_is_that_of_mahalanobis():
    known = clouds([0.0], 200, 0)
    statistics = fit(known, directions=20, shrink=0.0)
    clips = torch.stack(known["0.0"]).double()
    away = torch.full((20,), 2.0) - clips.mean(0)
    wanted = float(away @ torch.linalg.inv(clips.T.cov()) @ away) / 20
    assert statistics.distance(torch.full((20,), 2.0)) == pytest.approx(math.log(wanted), abs=0.01)


def test_without_unknown_clips_the_threshold_lies_beyond_the_known():
    statistics = fit(clouds([0.0], 60, 0))
    calibration = calibrate(statistics, Layer(), clouds([0.0], 50, 1)["0.0"])
    familiarity = Familiarity(statistics, calibration)
    assert all(familiarity(clip) >= 0.5 for clip in clouds([0.0], 50, 2)["0.0"])


def test_one_clip_is_too_few():
    with pytest.raises(DataError, match="two clips"):
        fit({"me": [torch.zeros(4)]})


def test_it_is_kept_with_the_pack(familiarity, tmp_path):
    model = make(tiny())
    channels = model.config.encoder.channels[0]
    seen = {"me": [torch.randn(channels, generator=torch.Generator().manual_seed(i)) for i in range(9)]}
    statistics = fit(seen)
    ours = Familiarity(statistics, calibrate(statistics, Layer(0, 1), seen["me"]))
    assert load_familiarity(tmp_path, model) is None
    ours.save(tmp_path)
    again = load_familiarity(tmp_path, model)
    assert again is not None
    assert again.calibration == ours.calibration
    assert again(seen["me"][0]) == pytest.approx(ours(seen["me"][0]), abs=0.05)
    for name, shape in (("centres", (channels,)), ("basis", (3, channels)), ("rest", (2,))):
        save_weights(tmp_path / STATISTICS_NAME, vars(statistics) | {name: torch.ones(shape)})
        with pytest.raises(CheckpointError, match="not made for this model"):
            load_familiarity(tmp_path, model)
    familiarity.save(tmp_path)
    with pytest.raises(CheckpointError, match="not made for this model"):
        load_familiarity(tmp_path, model)


def test_looking_on_changes_nothing_and_sees_what_fit_sees(prepared, clips):
    from lipsound2.data.shards import read_crops, read_index

    model = make(tiny())
    layer = Layer(0, 2)
    entry = read_index(prepared)[0]
    crops = read_crops(prepared, entry, model.config.video.channels)
    plain = Pipeline(model, GriffinLim(model.config.audio, iterations=2))
    with observe(model, layer) as seen:
        looked = plain.speak_crops(crops)
    np.testing.assert_array_equal(looked.mel, plain.speak_crops(crops).mel)
    torch.testing.assert_close(torch.stack(seen).mean(0), features(model, crops, layer))
    assert not model.encoder.blocks[0]._forward_hooks


def test_a_speech_says_how_well_its_face_is_known(prepared, clips):
    model = make(tiny())
    familiarity = make_familiarity(model, prepared, layer=Layer(0, 2))
    strict = replace(familiarity, calibration=replace(familiarity.calibration, threshold=1.0))
    vocoder = GriffinLim(model.config.audio, iterations=2)
    video = find_videos(clips)[0]
    silent = Pipeline(model, vocoder).speak(video)
    wary = Pipeline(model, vocoder, familiarity=strict, name="mine").speak(video)
    assert silent.familiarity is None
    assert silent.notes == ()
    assert 0 <= wary.familiarity <= 1
    assert "mine was not trained on this face" in wary.notes[0]
    np.testing.assert_array_equal(wary.wave, silent.wave)
    np.testing.assert_array_equal(wary.mel, silent.mel)


def test_a_note_is_a_comment_of_webvtt():
    assert to_vtt(Transcript(), ["a --> b\nc"]).split("\n\n")[1].strip() == "NOTE a --&gt; b c"


@pytest.mark.parametrize(
    ("video", "known"),
    [(f"examples/{name}-silent.mp4", True) for name in ("lbwf6p", "bgal7s", "prbh8s")]
    + [("tests/data/sim/sim01/lbwt3a.mp4", False), ("tests/data/sim/sim02/bbbszs.mp4", False)],
)
def test_the_installed_pack_knows_its_speakers_and_no_others(video, known):
    pipeline = lipsound2.load("grid-s1", device="cpu")
    speech = pipeline.speak(EXAMPLES.parent / video)
    assert (speech.familiarity >= 0.5) == known
    assert bool(speech.notes) != known


def test_the_installed_pack_says_what_it_knows():
    assert "51 words" in find_pack("grid-s1").info.knows
    stored = json.loads((find_pack("grid-s1").folder / "familiarity.json").read_text(encoding="utf-8"))
    assert stored["clips"]["unknown"] > 0
