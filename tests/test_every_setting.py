"""Every option of the training commands and every field of the recipes changes something, or is refused."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import tones
import torch
import typer
from rich.text import Text
from test_model import tiny as tiny_lips
from test_training import cpu
from test_vocoder_training import tiny as tiny_waveglow
from typer.testing import CliRunner

import lipsound2
from lipsound2.cli import app
from lipsound2.cli.training import OPTIONS
from lipsound2.config import FrameDecoderConfig
from lipsound2.errors import LipSoundError
from lipsound2.recognizer.config import BlockConfig
from lipsound2.settings import leaves, merge
from lipsound2.text.alphabet import Alphabet
from lipsound2.training.config import TrainConfig
from lipsound2.training.recipes.asr import AsrRecipe
from lipsound2.training.recipes.defaults import KINDS, default_recipe
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
from lipsound2.training.recipes.vocoder import VocoderRecipe
from lipsound2.training.run import Sources
from lipsound2.vocoder.config import VocoderLossConfig

SOURCE = Path(lipsound2.__file__).parent
COMMANDS = {
    "pretrain": ["pretrain"],
    "finetune": ["finetune"],
    "vocoder": ["vocoder", "train"],
    "vocoder-finetune": ["vocoder", "finetune"],
    "recognizer": ["recognizer", "train"],
    "recognizer-finetune": ["recognizer", "finetune"],
}
GIVEN = {
    "prepared": ["another"],
    "output": ["-o", "another"],
    "preset": ["--preset", "LAST"],
    "recipe": ["--recipe", "recipe.json"],
    "assignments": ["--set", "train.clip=0.25"],
    "epochs": ["--epochs", "7"],
    "batch_size": ["--batch-size", "7"],
    "learning_rate": ["--lr", "0.5"],
    "clips": ["--clips", "7"],
    "speakers": ["--speaker", "ann"],
    "seed": ["--seed", "7"],
    "workers": ["--workers", "3"],
    "device": ["--device", "cuda"],
    "devices": ["--devices", "2"],
    "start": ["--from", "another"],
    "mels_of": ["--mels-of", "another"],
    "generated": ["--generated", "another"],
    "pack": ["--pack", "another"],
    "more": ["--speech", "another"],
    "voice": ["--vocoder", "griffin-lim"],
    "plan": ["--plan"],
}
"""A use of each option that is not its default."""


class CalledError(LipSoundError):
    """What a training was called with."""


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what a command would train with."""
    seen: list[str] = []

    class Fabric:
        device = "cpu"
        is_global_zero = False

    def note(*arguments: object) -> Fabric:
        seen.append(repr([each for each in arguments if not callable(each)]))
        return Fabric()

    def planned(*arguments: object) -> None:
        note("plan", *arguments)
        raise CalledError("planned")

    with monkeypatch.context() as patch:
        patch.setattr("lipsound2.training.run.make_fabric", note)
        patch.setattr("lipsound2.training.run.run", note)
        patch.setattr("lipsound2.training.forecast.forecast", planned)
        patch.setattr("lipsound2.training.generated.generate_speech", note)
        patch.setattr("lipsound2.training.recipes.vocoder.mels_for", note)
        done = CliRunner().invoke(app, words)
    if done.exception:
        assert isinstance(done.exception, LipSoundError), words
        return ["refused", str(done.exception)]
    return [re.sub(r"<test_every_setting.*?>", "", line) for line in seen]


def find_command(kind: str):
    command = typer.main.get_command(app)
    for word in COMMANDS[kind]:
        command = command.commands[word]
    return command


def below(command):
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from below(each)


def test_help_is_shown_as_it_is_written():
    """Words in square brackets would be taken for a style, and not be seen."""
    for command in below(typer.main.get_command(app)):
        for text in (command.help, *(getattr(option, "help", None) for option in command.params)):
            assert Text.from_markup(text or "").plain == (text or ""), (command.name, text)


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_option_of_a_training_command_changes_what_is_trained(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.json").write_text('{"train": {"clip": 0.5}}')
    options = [option.name for option in find_command(kind).params if option.name != "help"]
    assert set(OPTIONS) < set(options)
    needed = {"prepared": ["prepared"], "start": ["--from", "run"], "pack": ["--pack", "run"]}
    plain = {name: words for name, words in needed.items() if name in options}
    last = KINDS[kind].presets[-1] if KINDS[kind].presets else ""

    def trained(uses: dict[str, list[str]]) -> list[str]:
        words = [*COMMANDS[kind], *(word.replace("LAST", last) for use in uses.values() for word in use)]
        return call(words, monkeypatch)

    before = trained(plain)
    assert before[0] != "refused", before
    for name in options:
        assert trained(plain | {name: GIVEN[name]}) != before, name


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_options_are_settings_and_the_help_says_their_defaults(kind):
    known = dict(leaves(default_recipe(kind)))
    assert set(OPTIONS.values()) <= set(known)
    for option in find_command(kind).params:
        if option.name in ("epochs", "batch_size", "learning_rate"):
            assert option.show_default == f"the recipe's, else {known[OPTIONS[option.name]]:g}"


@pytest.mark.parametrize("name", [each.name for each in fields(TrainConfig)])
def test_every_setting_of_the_loop_is_read(name):
    texts = [path.read_text() for folder in ("training", "data", "cli") for path in (SOURCE / folder).rglob("*.py")]
    assert any(re.search(rf"(settings|train|self)\.{name}\b", text) for text in texts)


def lip2mel() -> Lip2MelRecipe:
    model = replace(tiny_lips(), encoder=replace(tiny_lips().encoder, lstm_layers=2))
    return Lip2MelRecipe(model, train=TrainConfig(batch_size=2))


def vocoder() -> VocoderRecipe:
    return VocoderRecipe(tiny_waveglow(), TrainConfig(batch_size=2), VocoderLossConfig(segment=20, spectral_weight=0.5))


def asr() -> AsrRecipe:
    return AsrRecipe(tones.tiny(Alphabet().characters, 8), TrainConfig(batch_size=2))


OTHERS = {
    "model.audio.sample_rate": 8000,
    "model.audio.n_fft": 2048,
    "model.audio.win_length": 320,
    "model.audio.hop_length": 80,
    "model.video.window": [50, 80, 60],
    "model.video.channels": 3,
    "model.encoder.channels": [8, 8],
    "model.encoder.kernels": [[5, 3], [3, 3]],
    "model.encoder.strides": [1, 1],
    "model.encoder.pools": [2, 1],
    "model.decoder.location_width": 7,
    "model.decoder.kind": "frame",
    "model.postnet.width": 3,
    "window": [50, 80, 60],
    "loss.sampling_from": 0.25,
    "loss.sampling_share": 0.5,
    "speakers": ["nobody"],
    "clips": 1,
    "model.group": 20,
    "model.flows": 4,
    "model.early_every": 1,
    "model.early_size": 2,
    "model.kernel": 5,
    "model.mel_std": 1.0,
    "model.features.sample_rate": 8000,
    "model.features.n_fft": 1024,
    "model.features.f_max": 4000.0,
    "model.features.f_min": 60.0,
    "model.features.preemphasis": 0.5,
    "model.features.dither": 0.1,
    "model.features.guard": 0.1,
    "model.blocks": [{"filters": 4, "kernel": 3}],
    "model.alphabet": "abc ",
    "augment.snr": [1.0, 2.0],
    "augment.splice": 1.0,
    "augment.hide": 1.0,
    "augment.empty": 1.0,
    "seconds": 0.5,
    "voices": True,
    "best": "estoi",
    "model.language": "de",
    "order": 1,
}
"""Other values where twice the value plus one, or half of it, would not do."""

LATER = {
    *("val_clips", "loss.lag_from", "loss.lag_every", "loss.lag_frames"),
    *("model.window", "model.overlap", "model.condition_dim", "model.sigma", "model.denoise"),
    "model.consistency",
    *("model.gate.min_level", "model.gate.min_confidence", "model.gate.max_gap", "model.gate.doubtful"),
    *("model.timing.before", "model.timing.after", "model.language"),
}
"""Settings that only show late in a training, with more clips, or when a model is used, with which they travel."""


def other(key: str, value: object) -> object:
    """Return another value of a setting."""
    if key in OTHERS:
        return OTHERS[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 2 * value + 1 if value < 3 else value // 2 if value % 4 == 0 else value + 2
    assert isinstance(value, float), f"{key}: name another value of it"
    return value / 2 if value else 0.25


def effects(recipe, sources, folder):
    """Compute, one after the other, what a recipe decides before the loop begins."""
    task = recipe.assemble(sources, None, cpu()).make(folder)
    yield f"{task.model}{[(name, value.shape) for name, value in task.model.state_dict().items()]}"
    yield [len(task.train), *sorted((path.name, path.read_bytes()) for path in folder.rglob("*.arpa"))]
    if isinstance(recipe, Lip2MelRecipe):
        yield [task.best, task.model.encoder.recompute, task.model.decoder.graphs]
        yield len(task.train._cache._clips)
    if isinstance(recipe, VocoderRecipe):
        yield task.graphs
    Place = lipsound2.data.dataset.Place  # noqa: N806

    def batch(epoch, *clips):
        examples = [task.train[Place(epoch, clip)] for clip in clips]
        return task.ready(task.collate(examples), torch.device("cpu"))

    batches = [batch(epoch, 0, 1) for epoch in range(2)]
    yield from ([part for part in batch if isinstance(part, torch.Tensor)] for batch in batches)
    for epoch in (0.5, 5.0):
        torch.manual_seed(0)
        with torch.no_grad():
            yield task.loss(task.model.train(), batches[0], epoch, torch.Generator().manual_seed(0))[0]
    many = [batch(epoch, 0) for epoch in range(2, 14)]
    yield [part for batch in many for part in batch if isinstance(part, torch.Tensor)]


def same(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return one.shape == two.shape and torch.equal(one, two)
    if isinstance(one, list):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return one == two


@pytest.mark.parametrize("make", [lip2mel, vocoder, asr], ids=["lip2mel", "vocoder", "asr"])
def test_every_setting_of_a_recipe_changes_something_or_is_refused(make, prepared, tmp_path):
    recipe, sources = make(), Sources(prepared)
    before = list(effects(recipe, sources, tmp_path / "before"))
    idle = []
    for key, value in leaves(recipe):
        if key.startswith("train.") and key != "train.seed":
            continue
        data = other(key, value)
        for name in reversed(key.split(".")):
            data = {name: data}
        try:
            changed = merge(recipe, data)
            assert changed != recipe, key
            if key in LATER:
                word = key.rsplit(".", 1)[-1]
                used = [path for path in SOURCE.rglob("*.py") if re.search(rf"\.{word}\b", path.read_text())]
                assert [path for path in used if "config" not in path.name], key
                continue
            after = effects(changed, sources, tmp_path / key)
            if all(same(one, two) for one, two in zip(before, after, strict=True)):
                idle.append(key)
        except LipSoundError:
            continue
    assert idle == []


def test_the_settings_of_the_frame_decoder_change_the_network(prepared, tmp_path):
    base = replace(lip2mel().model, decoder=FrameDecoderConfig(1, 8, 3))
    before = str(lipsound2.model.LipSound2(base))
    for change in ({"layers": 2}, {"dim": 12}, {"width": 5}, {"dropout": 0.3}):
        model = replace(base, decoder=replace(base.decoder, **change))
        assert str(lipsound2.model.LipSound2(model)) != before, change


@pytest.mark.parametrize("name", [each.name for each in fields(BlockConfig)])
def test_every_setting_of_a_block_is_read(name):
    assert re.search(rf"\.{name}\b", (SOURCE / "recognizer" / "jasper.py").read_text())


def test_the_recogniser_keeps_sounds_and_shows_them(prepared, tmp_path):
    recipe = asr()
    task = recipe.assemble(Sources(prepared), None, cpu()).make(tmp_path)
    with torch.no_grad():
        found = task.validate(task.model.eval(), True)
        plain = task.validate(task.model.eval(), False)
    assert set(found.figures) == {"features"}
    assert set(found.sounds) == {"speech real"}
    assert not plain.sounds
    assert task.train.wave(0) is not None
    assert len(task.train._cache._clips) == 1
    none = replace(recipe, train=replace(recipe.train, cache_gb=0.0))
    task = none.assemble(Sources(prepared), None, cpu()).make(tmp_path / "none")
    assert task.train.wave(0) is not None
    assert not task.train._cache._clips


REFUSED = {
    "finetune p --from q --preset small": "no such option: --preset",
    "vocoder train p --set loss.generated_share=0.9": "generated_share does nothing without generated mels",
    "vocoder finetune p --from q --generated g": "--generated does nothing without --mels-of",
    "read a.mp4 --sound --face left": "--face does nothing with --sound",
    "read a.mp4 --sound --track 2": "--track does nothing with --sound",
    "read a.mp4 --detector-file x": "--detector-file does nothing without --detector yunet",
    "prepare folder . --detector-file x": "--detector-file does nothing without --detector yunet",
    "evaluate --data . --detector-file x": "--detector-file does nothing without --detector yunet",
    "speak a.mp4 --list-faces --text": "--text does nothing with --list-faces",
}


@pytest.mark.parametrize("line", REFUSED)
def test_an_option_that_would_do_nothing_is_refused(line, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(prepared) if word == "p" else word for word in line.split()])
    said = str(done.exception) if isinstance(done.exception, LipSoundError) else done.output.lower()
    assert done.exit_code != 0
    assert REFUSED[line] in " ".join(said.replace("│", "").split())
