import json
from dataclasses import dataclass, field, replace

import pytest

from lipsound2.config import DECODERS, AttentionDecoderConfig, FrameDecoderConfig, small
from lipsound2.errors import ConfigError
from lipsound2.settings import BASE, assign, changes, keys, merge, plain, read_settings
from lipsound2.training.config import TrainConfig
from lipsound2.training.recipes.asr import AsrRecipe
from lipsound2.training.recipes.defaults import KINDS, choose_recipe, default_recipe, guess_kind
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe, pretrain_recipe


@dataclass(frozen=True)
class Inner:
    count: int = 1
    name: str = "x"
    share: float = 0.5
    on: bool = False


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = field(default=None, metadata={BASE: lambda: Inner(count=7)})
    pair: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    box: tuple[int, int, int] | None = None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("inner.count=3", Outer(Inner(3))),
        ("inner.count=3.0", Outer(Inner(3))),
        ("inner.share=2", Outer(Inner(share=2.0))),
        ("inner.share=1e-3", Outer(Inner(share=0.001))),
        ("inner.name=3", Outer(Inner(name="3"))),
        ("inner.name=32-true", Outer(Inner(name="32-true"))),
        ("inner.on=true", Outer(Inner(on=True))),
        ('inner={"count": 4, "on": true}', Outer(Inner(4, on=True))),
        ("other.share=0", Outer(other=Inner(7, share=0.0))),
        ("other=null", Outer()),
        ("pair=[1, 2]", Outer(pair=(1.0, 2.0))),
        ("pair=0.9,0.98", Outer(pair=(0.9, 0.98))),
        ("names=s1,s2", Outer(names=("s1", "s2"))),
        ('names=["s1"]', Outer(names=("s1",))),
        ("names=", Outer()),
        ("box=50,82,60", Outer(box=(50, 82, 60))),
        ("box=null", Outer()),
    ],
)
def test_a_line_sets_one_value(line, expected):
    assert assign(Outer(), [line]) == expected


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("count=3", "there is no setting count", "did you mean inner.count or other.count?"),
        ("inner.cuont=3", "there is no setting inner.cuont", "did you mean inner.count"),
        ("inner.zzz=3", "there is no setting inner.zzz", "known here: count, name, share, on"),
        ("inner.count=x", "inner.count takes a whole number, got 'x'", ""),
        ("inner.count=2.5", "inner.count takes a whole number, got 2.5", ""),
        ("inner.count=true", "inner.count takes a whole number, got True", ""),
        ("inner.share=much", "inner.share takes a number, got 'much'", ""),
        ("inner.on=yes", "inner.on takes true or false, got 'yes'", ""),
        ("inner=3", "inner. takes an object with count, name, share, on, got 3", ""),
        ("pair=1", "pair takes 2 numbers", ""),
        ("pair=[1, 2, 3]", "pair takes 2 numbers, got [1, 2, 3]", ""),
        ("pair=a,b", "pair[0] takes a number, got 'a'", ""),
        ("box=1,2", "box takes 3 whole numbers", ""),
        ("inner.count", "KEY=VALUE was expected", "--set train.epochs=3"),
        ("=3", "KEY=VALUE was expected", ""),
    ],
)
def test_a_wrong_line_says_what_was_expected(line, message, hint):
    with pytest.raises(ConfigError) as caught:
        assign(Outer(), [line])
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_one_setting_is_set_once():
    with pytest.raises(ConfigError, match=r"inner\.count is set twice"):
        assign(Outer(), ["inner.count=3", "inner.count=4"])
    with pytest.raises(ConfigError, match="the option of its own set the same"):
        choose_recipe("pretrain", assignments=["train.epochs=3"], options={"train.epochs": 4})


def test_a_file_changes_what_it_names_and_options_come_last(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"train": {"epochs": 7, "clip": 0.5}, "model": {"video": {"size": 32}}}))
    found = choose_recipe("pretrain", "paper", path, ["train.clip=2", "speakers=s1"], {"train.epochs": 9})
    assert found.train == TrainConfig(epochs=9, clip=2.0)
    assert found.speakers == ("s1",)
    base = pretrain_recipe("paper").model
    assert found.model == replace(base, video=replace(base.video, size=32)), "the rest is the preset's"
    for text, message in (
        ("{", "cannot read"),
        ("3", "takes an object"),
        ('{"train": {"epochs": "x"}}', "whole number"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as caught:
            read_settings(path, Lip2MelRecipe())
        assert "recipe.json" in caught.value.message


def test_a_decoder_of_another_kind_starts_from_its_own_defaults():
    recipe = assign(pretrain_recipe(), ["model.decoder.kind=frame", "model.decoder.layers=2"])
    assert recipe.model.decoder == FrameDecoderConfig(layers=2)
    recipe = assign(pretrain_recipe(), ["model.decoder.lstm_dim=64"])
    assert recipe.model.decoder == AttentionDecoderConfig(prenet_dim=128, lstm_dim=64, frames_per_step=4)
    with pytest.raises(ConfigError, match=rf"decoder\.kind takes one of {', '.join(DECODERS)}, got 'foo'"):
        assign(pretrain_recipe(), ["model.decoder.kind=foo"])


def test_lists_of_settings_are_checked_too():
    blocks = '[{"filters": 8, "kernel": 3}]'
    found = assign(AsrRecipe(), [f"model.blocks={blocks}"])
    assert (found.model.blocks[0].filters, found.model.blocks[0].repeat) == (8, 1)
    with pytest.raises(ConfigError, match=r"model\.blocks\[0\] lacks kernel"):
        assign(AsrRecipe(), ['model.blocks=[{"filters": 8}]'])


def test_changes_name_what_differs():
    found = changes(Lip2MelRecipe(), merge(Lip2MelRecipe(), {"train": {"epochs": 3}, "window": [1, 2, 30]}))
    assert [str(change) for change in found] == ["window = [1, 2, 30], not null", "train.epochs = 3, not 100"]


def test_a_preset_that_does_nothing_is_refused(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"model": plain(small())}))
    with pytest.raises(ConfigError, match="the recipe already names a model"):
        choose_recipe("pretrain", "paper", path)
    with pytest.raises(ConfigError, match="no preset 'huge' of pretrain") as caught:
        default_recipe("pretrain", "huge")
    assert caught.value.hint == "known: small, paper"
    with pytest.raises(ConfigError, match="no preset 'small' of finetune") as caught:
        default_recipe("finetune", "small")
    assert "it keeps the model" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_can_be_written_and_read_again(kind, tmp_path):
    recipe = default_recipe(kind)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(plain(recipe)))
    assert choose_recipe(kind, file=path) == recipe
    assert "train.epochs" in keys(recipe)


def test_the_kind_of_a_recipe_is_guessed(tmp_path):
    path = tmp_path / "recipe.json"
    for data, kind in (
        ({"window": [1, 2, 30]}, "pretrain"),
        ({"loss": {"segment": 25}}, "vocoder"),
        ({"order": 2}, "recognizer"),
    ):
        path.write_text(json.dumps(data))
        assert guess_kind(path) == kind
        (tmp_path / "begun.json").write_text('{"start": "abc"}')
        assert guess_kind(tmp_path).startswith("finetune" if kind == "pretrain" else f"{kind}-finetune")
        (tmp_path / "begun.json").unlink()
    path.write_text('{"foo": 1}')
    with pytest.raises(ConfigError, match="no setting foo"):
        guess_kind(path)
