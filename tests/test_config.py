import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lipsound2.config import AugmentConfig, MelLossConfig, TrainConfig, read_config, to_json
from lipsound2.errors import ConfigError
from lipsound2.runtime import devices
from lipsound2.training.recognizer_runs import RecognizerRecipe
from lipsound2.training.runs import Recipe, make_fabric
from lipsound2.training.vocoder_runs import VocoderRecipe
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
        (Recipe(), "clips", -1, "at least 0"),
        (RecognizerRecipe(), "order", 0, "at least 1"),
        (VocoderRecipe(), "clips", -1, "at least 0"),
    ],
)
def test_numbers_have_ranges(config, name, value, expected):
    with pytest.raises(ConfigError, match=f"{name} must be {expected}.*, got {value}"):
        replace(config, **{name: value})


def test_a_recipe_out_of_range_names_its_file(tmp_path):
    path = tmp_path / "recipe.json"
    data = json.loads(to_json(Recipe()))
    data["train"]["epochs"] = 0
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"recipe\.json: epochs must be at least 1, got 0"):
        read_config(path, Recipe)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "recipes").glob("*.json")), ids=lambda p: p.stem)
def test_our_recipes_are_in_range(path):
    kind = {"waveglow": VocoderRecipe, "jasper": RecognizerRecipe}.get(path.stem.split("-")[0], Recipe)
    read_config(path, kind)


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
    monkeypatch.setattr("lipsound2.training.runs.count_devices", lambda kind: 1 if kind == "cuda" else None)
    with pytest.raises(ConfigError, match="2 processes for 1 of cuda"):
        make_fabric("cuda", 2, "32-true")
    assert make_fabric("cpu", 1, "32-true").device.type == "cpu"
