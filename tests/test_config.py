import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lipsound2.config import AugmentConfig, read_config, to_json
from lipsound2.errors import ConfigError
from lipsound2.runtime import devices
from lipsound2.settings import read_settings
from lipsound2.training.config import MelLossConfig, TrainConfig
from lipsound2.training.recipes.asr import AsrRecipe
from lipsound2.training.recipes.defaults import choose_recipe
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe, pretrain_recipe
from lipsound2.training.recipes.vocoder import VocoderRecipe
from lipsound2.training.run import make_fabric
from lipsound2.vocoder.config import VocoderLossConfig


@pytest.mark.parametrize(
    ("config", "name", "value", "expected"),
    [
        (TrainConfig(), "epochs", 0, "at least 1"),
        (TrainConfig(), "batch_size", -2, "at least 1"),
        (TrainConfig(), "learning_rate", 0.0, "above 0"),
        (TrainConfig(), "learning_rate", math.nan, "above 0"),
        (TrainConfig(), "learning_rate", math.inf, "above 0"),
        (TrainConfig(), "workers", -1, "at least 0"),
        (TrainConfig(), "ema", 1.5, "at least 0 and at most 1"),
        (AugmentConfig(), "flip", 2.0, "at least 0 and at most 1"),
        (MelLossConfig(), "sampling_share", -0.1, "at least 0"),
        (VocoderLossConfig(), "segment", 0, "at least 1"),
        (Lip2MelRecipe(), "clips", -1, "at least 0"),
        (AsrRecipe(), "order", 0, "at least 1"),
        (VocoderRecipe(), "clips", -1, "at least 0"),
    ],
)
def test_numbers_have_ranges(config, name, value, expected):
    with pytest.raises(ConfigError, match=f"{name} must be {expected}.*, got {value}"):
        replace(config, **{name: value})


def test_a_recipe_out_of_range_names_its_file(tmp_path):
    path = tmp_path / "recipe.json"
    data = json.loads(to_json(pretrain_recipe()))
    data["train"]["epochs"] = 0
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"recipe\.json: epochs must be at least 1, got 0"):
        read_settings(path, Lip2MelRecipe())


RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.json"))
TUNED = {"grid-s1-closer", "grid-s1-simulated", "grid-s1-more", "grid-s1-letters", "jasper-more", "jasper-simulated"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_recipes_give_what_they_always_gave(path):
    """What a recipe leaves out is the default of its command, which is the same as the default of its settings."""
    kind, name = {"waveglow": ("vocoder", VocoderRecipe), "jasper": ("recognizer", AsrRecipe)}.get(
        path.stem.split("-")[0], ("pretrain", Lip2MelRecipe)
    )
    tuned = path.stem in TUNED or path.stem == "waveglow-s1-made"
    kind = ("finetune" if kind == "pretrain" else f"{kind}-finetune") if tuned else kind
    found = choose_recipe(kind, file=path)
    assert replace(found, model=None) == replace(read_config(path, name), model=None)
    if tuned:
        assert found.model is None
    elif "model" in json.loads(path.read_text()):
        assert found.model == read_config(path, name).model


@pytest.mark.parametrize(
    ("name", "kind"), [("pretrain", Lip2MelRecipe), ("vocoder-finetune", VocoderRecipe), ("recognizer", AsrRecipe)]
)
def test_recipes_of_runs_of_older_versions_are_read(name, kind):
    path = Path(__file__).parent / "data" / "old_runs" / f"{name}.json"
    recipe = read_config(path, kind)
    assert recipe == read_settings(path, kind())
    assert recipe == choose_recipe(name, file=path)
    assert recipe.train.epochs == 1
    assert recipe.model is not None


def test_a_device_is_one_that_is_there(monkeypatch):
    monkeypatch.setattr(devices, "list_devices", lambda: ["cpu", "cuda", "cuda:0", "cuda:1"])
    assert [devices.find_device(name) for name in (None, "auto", "cpu", "CUDA", "cuda:1")] == [
        "cuda",
        "cuda",
        "cpu",
        "cuda",
        "cuda:1",
    ]
    for name in ("foo", "mps", "cuda:7", "gpu", ""):
        with pytest.raises(ConfigError, match=f"no device '{name}' here") as caught:
            devices.find_device(name)
        assert caught.value.hint == "there is: auto, cpu, cuda, cuda:0, cuda:1"
    monkeypatch.setattr(devices, "list_devices", lambda: ["cpu", "mps"])
    assert [devices.find_device(name) for name in ("auto", "mps", "mps:0")] == ["cpu", "mps", "mps:0"]


def test_training_takes_no_more_processes_than_there_are_devices(monkeypatch):
    monkeypatch.setattr(devices, "list_devices", lambda: ["cpu", "cuda", "cuda:0"])
    monkeypatch.setattr("lipsound2.training.run.count_devices", lambda kind: 1 if kind == "cuda" else None)
    with pytest.raises(ConfigError, match="2 processes for 1 of cuda"):
        make_fabric("cuda", 2, "32-true")
    assert make_fabric("cpu", 1, "32-true").device.type == "cpu"


def test_a_strategy_that_does_not_fit_is_one_line():
    with pytest.raises(ConfigError, match="unknown strategy 'deepspeed'") as caught:
        make_fabric("cpu", 2, "32-true", "deepspeed")
    assert caught.value.hint == "known: auto, ddp, fsdp"
    for name in ("ddp", "fsdp"):
        with pytest.raises(ConfigError, match=f"the strategy {name} is for several processes, there is 1"):
            make_fabric("cpu", 1, "32-true", name)
    with pytest.raises(ConfigError, match="fsdp and graphs exclude each other"):
        Lip2MelRecipe(train=TrainConfig(strategy="fsdp"))
