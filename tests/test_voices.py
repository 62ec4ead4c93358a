from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from test_model import make, tiny
from test_training import cpu, recipe

import lipsound2
from lipsound2.cli.main import main
from lipsound2.corpora.folder import find_videos
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.data.shards import read_crops, read_index
from lipsound2.data.voices import Voices
from lipsound2.errors import CheckpointError, ConfigError, LipSoundError, MediaError
from lipsound2.packs import PackInfo, find_pack, write_pack
from lipsound2.packs.voices import EMBEDDINGS_NAME, from_speakers, load_voices
from lipsound2.runtime.weights import save_weights
from lipsound2.training.familiarity import measure_run
from lipsound2.training.generated_mels import teacher_forced_mel
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
from lipsound2.training.run import run
from lipsound2.voice.encoder import DIM, RATE, embed


def buzz(hertz: float, seconds: float = 2.0) -> np.ndarray:
    """A buzz with syllables of 4 Hz, which the speaker encoder tells apart by pitch."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sign(np.sin(2 * np.pi * hertz * time)) * (1 + np.sin(8 * np.pi * time))).astype(np.float32)


@pytest.fixture(scope="module")
def voiced(prepared, tmp_path_factory):
    """A run of two epochs that is conditioned on speaker embeddings."""
    folder = tmp_path_factory.mktemp("voiced")
    run(replace(recipe(), voices=True), prepared, folder, None, cpu())
    return folder


@pytest.fixture(scope="module")
def pack(voiced, prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "two"
    familiarity, voices = measure_run(voiced, prepared)
    info = PackInfo("two", "1", "CC0-1.0", "simulated")
    write_pack({"model": voiced}, folder, info, "card", familiarity=familiarity, voices=voices)
    return folder


def test_embeddings_are_of_length_one_and_silence_has_none():
    assert np.linalg.norm(embed(buzz(110))) == pytest.approx(1, abs=1e-5)
    assert not embed(np.zeros(RATE, np.float32)).any()
    assert embed(buzz(110)) @ embed(buzz(112)) > embed(buzz(110)) @ embed(buzz(240))


def test_a_clip_is_conditioned_on_another_clip_of_its_speaker():
    heard = []

    def wave(clip: int) -> torch.Tensor:
        heard.append(clip)
        return torch.from_numpy(buzz(100 + 20 * clip))

    voices = Voices(["ann", "bob", "ann", "ann"], wave, RATE)
    rng = np.random.default_rng(0)
    for _ in range(20):
        voices.drawn(0, rng)
    assert sorted(heard) == [2, 3]
    torch.testing.assert_close(voices.following(3), torch.from_numpy(embed(buzz(100))))
    torch.testing.assert_close(voices.drawn(1, rng), torch.from_numpy(embed(buzz(120))))
    assert sorted(heard) == [0, 1, 2, 3]


def test_examples_come_with_a_voice_only_if_asked(prepared):
    config = tiny()
    plain = ClipDataset(prepared, "train", config.audio, config.video)
    assert plain.load([Place(0, 0)]).voices is None
    voiced = ClipDataset(prepared, "train", config.audio, config.video, voices=True)
    batch = voiced.load([Place(0, 0), Place(0, 1)])
    assert batch.voices is not None
    assert batch.voices.shape == (2, DIM)


def test_the_condition_is_trained(voiced):
    weights = load_file(voiced / "best" / "model.safetensors")["condition.weight"]
    torch.manual_seed(0)
    assert weights.shape[1] == DIM
    first = make(replace(tiny(), condition_dim=DIM)).condition.weight
    assert not torch.allclose(weights, first)
    assert find_pack(voiced).load_model().config.condition_dim == DIM


def test_a_model_of_one_voice_begins_to_listen_without_a_change():
    one = make(tiny())
    many = Lip2MelRecipe(voices=True).listening(one).eval()
    video = torch.randint(0, 256, (1, 1, 10, 16, 16), dtype=torch.uint8)
    lengths, voice = torch.tensor([10]), torch.from_numpy(embed(buzz(120)))[None]
    torch.testing.assert_close(one(video, lengths).after, many(video, lengths, condition=voice).after)
    assert Lip2MelRecipe(voices=False).listening(many).config.condition_dim == 0
    assert Lip2MelRecipe().listening(many) is many


def test_another_condition_than_speaker_embeddings_is_refused(prepared, tmp_path):
    settings = replace(recipe(), model=replace(tiny(), condition_dim=7))
    with pytest.raises(ConfigError, match="speaker embeddings have 256"):
        run(settings, prepared, tmp_path, None, cpu())


def test_generated_mels_have_the_voice_of_their_clip(voiced, prepared):
    entry = read_index(prepared)[0]
    model = find_pack(voiced).load_model()
    assert teacher_forced_mel(model, prepared, entry).shape[0] == model.config.audio.n_mels


def test_a_pack_names_its_voices(pack, prepared, tmp_path):
    pipeline = lipsound2.load(pack, vocoder="griffin-lim", device="cpu")
    speakers = {str(entry.meta["speaker"]) for entry in read_index(prepared) if entry.meta["split"] == "train"}
    assert pipeline.voices is not None
    assert set(pipeline.voices.names) == speakers
    crops = read_crops(prepared, read_index(prepared)[0], pipeline.model.config.video.channels)
    nearest = pipeline.speak_crops(crops).mel
    own = [pipeline.speak_as(name) or pipeline.speak_crops(crops).mel for name in pipeline.voices.names]
    assert any(np.array_equal(nearest, mel) for mel in own)
    soundfile.write(tmp_path / "my voice.wav", buzz(200), RATE)
    pipeline.speak_as(tmp_path / "my voice.wav")
    assert not any(np.array_equal(pipeline.speak_crops(crops).mel, mel) for mel in own)


def test_the_nearest_face_gives_the_voice(pack, prepared):
    pipeline = lipsound2.load(pack, device="cpu")
    assert pipeline.voices is not None
    assert pipeline.familiarity is not None
    statistics = pipeline.familiarity.statistics
    for number, name in enumerate(pipeline.voices.names):
        for centre in (2 * number, 2 * number + 1):
            features = statistics.centres[centre] * statistics.scale + statistics.offset
            assert pipeline.voices.nearest(statistics, features) == name


def test_a_voice_that_cannot_be_is_one_line(pack, tmp_path):
    pipeline = lipsound2.load(pack, device="cpu")
    with pytest.raises(ConfigError, match="no voice 'nobody', and there is no such file"):
        pipeline.speak_as("nobody")
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "short.wav", buzz(120, 0.5), RATE)
    for name, message in (("silent.wav", "is silent"), ("short.wav", "less than 1 s")):
        with pytest.raises(MediaError, match=message):
            pipeline.speak_as(tmp_path / name)
    with pytest.raises(ConfigError, match="grid-s1 has one voice"):
        lipsound2.load("grid-s1", device="cpu", voice="s1")


def test_a_run_without_voices_of_its_own_asks_for_one(voiced, prepared):
    pipeline = lipsound2.load(voiced, device="cpu")
    crops = read_crops(prepared, read_index(prepared)[0], pipeline.model.config.video.channels)
    with pytest.raises(LipSoundError, match="none of its own") as caught:
        pipeline.speak_crops(crops)
    assert caught.value.hint == "give one with --voice FILE"


def test_voices_of_another_model_are_refused(tmp_path):
    voices = from_speakers({"bob": torch.ones(4) / 2, "ann": torch.eye(4)[0]})
    voices.save(tmp_path)
    again = load_voices(tmp_path, 4)
    assert again is not None
    assert again.names == ("ann", "bob")
    torch.testing.assert_close(again.named("ann"), torch.eye(4)[0])
    with pytest.raises(ConfigError, match="no voice 'eve'") as caught:
        again.named("eve")
    assert caught.value.hint == "one of ann, bob, or an audio file"
    save_weights(tmp_path / EMBEDDINGS_NAME, {"embeddings": torch.ones(3, 4)})
    with pytest.raises(CheckpointError, match="not made for this model"):
        load_voices(tmp_path, 4)
    assert load_voices(tmp_path / "elsewhere", 4) is None


def test_the_command_speaks_with_the_voice_asked_for(pack, clips, tmp_path, capsys):
    video, out = find_videos(clips)[0], tmp_path / "out"
    words = ["speak", str(video), "--pack", str(pack), "-f", "wav", "-o", str(out), "--voice"]
    soundfile.write(tmp_path / "my voice.wav", buzz(200), RATE)
    assert status([*words, "nobody"]) == 2
    assert "no voice 'nobody'" in capsys.readouterr().err
    assert status([*words, str(tmp_path / "my voice.wav")]) == 0
    first = (out / f"{video.stem}.wav").read_bytes()
    assert status([*words, load_voices(pack, DIM).names[0], "--force"]) == 0
    assert (out / f"{video.stem}.wav").read_bytes() != first


def status(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)
