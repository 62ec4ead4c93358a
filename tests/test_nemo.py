import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from data.nemo import make

from lipsound2.errors import CheckpointError, LipSoundError
from lipsound2.importers.nemo import convert_config, import_nemo, key_map, read_nemo
from lipsound2.recognizer.config import jasper_10x5dr, quartznet_15x5
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.transcriber import load_jasper

GOLDEN = np.load(Path(__file__).parent / "data" / "nemo" / "golden.npz")


def settings(blocks: list[dict], **changes: dict) -> dict:
    """Write a configuration as NeMo does."""
    parts = {
        "preprocessor": {"_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "features": 6},
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "activation": "relu",
            "conv_mask": True,
            "jasper": blocks,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "num_classes": 3,
            "vocabulary": list(make.LABELS),
        },
    }
    return {name: part | changes.get(name, {}) for name, part in parts.items()} | {"labels": list(make.LABELS)}


def weights(blocks: list[dict], seed: int) -> dict[str, torch.Tensor]:
    """Draw the weights that make.py drew, by NeMo's names."""
    config = convert_config(settings(blocks))
    ours = Jasper(config).state_dict()
    return make.weights({theirs: tuple(ours[name].shape) for theirs, name in key_map(config).items()}, seed)


def archive(path: Path, config: dict, state: dict | bytes, compression: str = "gz") -> Path:
    """Write a .nemo archive."""
    file = io.BytesIO()
    torch.save(state, file)
    members = {
        "./model_config.yaml": yaml.safe_dump(config).encode(),
        "./model_weights.ckpt": state if isinstance(state, bytes) else file.getvalue(),
    }
    with tarfile.open(path, f"w:{compression}") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("kind", "blocks", "seed"), [("jasper", make.JASPER, 0), ("quartznet", make.QUARTZNET, 1)])
@pytest.mark.parametrize("compression", ["gz", ""])
def test_an_imported_network_says_what_nemo_says(tmp_path, kind, blocks, seed, compression):
    path = archive(tmp_path / "model.nemo", settings(blocks), weights(blocks, seed), compression)
    folder = import_nemo(path, tmp_path / "imported")
    values, lengths = (torch.from_numpy(array) for array in make.inputs())
    with torch.inference_mode():
        found = load_jasper(folder)(values, lengths)
    for i, length in enumerate(found.lengths.tolist()):
        assert torch.allclose(found.values[i, :length], torch.from_numpy(GOLDEN[kind][i, :length]), atol=1e-4)
    with pytest.raises(CheckpointError, match="exists"):
        import_nemo(path, tmp_path / "imported")
    import_nemo(path, tmp_path / "imported", force=True)


def test_networks_without_masks_are_named_otherwise(tmp_path):
    plain = {name.replace(".conv.", "."): value for name, value in weights(make.QUARTZNET, 1).items()}
    path = archive(tmp_path / "model.nemo", settings(make.QUARTZNET, encoder={"conv_mask": False}), plain)
    masked = archive(tmp_path / "masked.nemo", settings(make.QUARTZNET), weights(make.QUARTZNET, 1))
    found, wanted = read_nemo(path).state_dict(), read_nemo(masked).state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_the_oldest_archives_keep_settings_one_level_deeper():
    old = settings(make.JASPER)
    for name in ("preprocessor", "encoder", "decoder"):
        part = old[name]
        old[name] = {"cls": part.pop("_target_"), "params": part}
    assert convert_config(old) == convert_config(settings(make.JASPER))


def test_published_layouts_are_the_presets():
    for preset in (jasper_10x5dr(), quartznet_15x5()):
        blocks = [
            {
                "filters": block.filters,
                "kernel": [block.kernel],
                "repeat": block.repeat,
                "stride": [block.stride],
                "dilation": [block.dilation],
                "dropout": block.dropout,
                "residual": block.residual != "none",
                "residual_dense": block.residual == "dense",
                "separable": block.separable,
            }
            for block in preset.blocks
        ]
        labels = {"vocabulary": list(preset.alphabet)}
        assert convert_config(settings(blocks, decoder=labels, preprocessor={"features": 64})) == preset
        with torch.device("meta"):
            assert set(key_map(preset).values()) == Jasper(preset).state_dict().keys()


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("the encoder is a ConformerEncoder", {"encoder": {"_target_": "nemo.ConformerEncoder"}}),
        ("the decoder is a RNNTDecoder", {"decoder": {"_target_": "nemo.RNNTDecoder"}}),
        ("not single characters", {"decoder": {"vocabulary": ["the", "of"]}}),
        ("the block's se is True", {"encoder": {"jasper": [make.JASPER[0] | {"se": True}]}}),
        ("the encoder's activation is 'swish'", {"encoder": {"activation": "swish"}}),
        ("cannot be read: TypeError", {"decoder": {"vocabulary": 5}}),
        ("cannot be read: TypeError", {"encoder": {"jasper": [make.JASPER[0] | {"dropout": []}]}}),
        ("hop_length must be at least 1", {"preprocessor": {"window_stride": 0.0}}),
        ("cannot be read: KeyError", {"encoder": {"jasper": [{"filters": 3}]}}),
        ("cannot be read: ValueError", {"preprocessor": {"log_zero_guard_value": "eps"}}),
        ("the preprocessor's normalize is 'all_features'", {"preprocessor": {"normalize": "all_features"}}),
    ],
)
def test_other_models_are_refused(tmp_path, message, changes):
    path = archive(tmp_path / "model.nemo", settings(make.JASPER, **changes), weights(make.JASPER, 0))
    with pytest.raises(LipSoundError, match=message):
        import_nemo(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = weights(make.JASPER, 0)
    name = "encoder.encoder.1.mconv.0.conv.weight"
    for message, wrong in (
        ("is missing", {key: value for key, value in state.items() if key != name}),
        ("is unknown", state | {"encoder.extra": torch.zeros(1)}),
        ("does not fit", state | {name: torch.zeros(1, 2, 3)}),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_nemo(archive(tmp_path / "model.nemo", settings(make.JASPER), wrong))


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "text.nemo").write_text("no archive")
    with tarfile.open(tmp_path / "empty.nemo", "w"):
        pass
    whole = archive(tmp_path / "whole.nemo", settings(make.JASPER), weights(make.JASPER, 0)).read_bytes()
    (tmp_path / "cut.nemo").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "zip.nemo").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "zip.nemo", "w") as file:
        file.writestr("a", "b")
    for name in ("text", "empty", "cut", "zip", "missing"):
        with pytest.raises(CheckpointError):
            read_nemo(tmp_path / f"{name}.nemo")
    yaml_with_code = archive(tmp_path / "code.nemo", settings(make.JASPER), weights(make.JASPER, 0), "")
    text = yaml_with_code.read_bytes().replace(b"activation: relu", b"activation: !!x ")
    yaml_with_code.write_bytes(text)
    with pytest.raises(CheckpointError, match="not a whole"):
        read_nemo(yaml_with_code)


class Malicious:
    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_nothing_in_an_archive_is_run(tmp_path):
    bomb = Malicious()
    bomb.mark = tmp_path / "owned"
    for state in ({"a": bomb}, pickle.dumps(bomb)):
        with pytest.raises(CheckpointError):
            read_nemo(archive(tmp_path / "model.nemo", settings(make.JASPER), state))
    assert not bomb.mark.exists()


def test_an_archive_that_expands_without_end_is_refused(tmp_path):
    path = archive(tmp_path / "bomb.nemo", settings(make.JASPER), bytes(2**25))
    with pytest.raises(CheckpointError, match="expands to more than"):
        read_nemo(path)


def test_messages_name_the_archive_and_not_a_copy(tmp_path):
    path = archive(tmp_path / "model.nemo", settings(make.JASPER), b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"model\.nemo/model_weights\.ckpt") as caught:
        read_nemo(path)
    assert "/tmp" not in caught.value.message.replace(str(path), "")
