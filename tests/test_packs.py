import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from test_model import clip, make, tiny

from lipsound2 import packs
from lipsound2.config import to_json
from lipsound2.errors import CheckpointError, ConfigError, LipSoundError
from lipsound2.packs import PackInfo, find_pack, list_packs, write_pack
from lipsound2.packs.card import with_front_matter
from lipsound2.packs.pack import DEFAULT_PACK, verify, write_sums
from lipsound2.runtime.weights import load_weights, save_weights


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "config.json").write_text(to_json(tiny()))
    save_weights(folder / "best" / "model.safetensors", make(tiny()).state_dict())
    return folder


@pytest.fixture
def pack(run, tmp_path) -> Path:
    info = PackInfo("mine", "1", "CC-BY-4.0", "five clips", scores={"STOI": 0.7})
    return write_pack({"model": run}, tmp_path / "packs" / "mine", info, "# Mine\n").folder


def test_a_pack_is_rebuilt_from_itself_alone(pack, run):
    found = find_pack(pack)
    assert found.info.scores == {"STOI": 0.7}
    model = found.load_model()
    assert not model.training
    video, lengths = clip(6), torch.tensor([6])
    expected = make(tiny())(video, lengths).after
    # Stored in half precision.
    torch.testing.assert_close(model(video, lengths).after, expected, atol=0.05, rtol=0.01)
    torch.testing.assert_close(find_pack(run).load_model()(video, lengths).after, expected)


def test_others_may_read_a_pack(pack):
    masked = os.umask(0)
    os.umask(masked)
    assert {path.stat().st_mode & 0o777 for path in pack.rglob("*") if path.is_file()} == {0o666 & ~masked}


def test_packs_are_found_by_name(pack, monkeypatch):
    monkeypatch.setenv("LIPSOUND2_PACKS", str(pack.parent))
    assert find_pack("mine").folder == pack
    assert "mine" in [found.info.name for found in list_packs()]
    with pytest.raises(CheckpointError, match="no pack and no folder 'yours'") as caught:
        find_pack("yours")
    assert "mine" in caught.value.hint


def test_a_changed_byte_is_refused(pack):
    weights = pack / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors differs from its checksum"):
        find_pack(pack)


def test_a_pack_is_verified_once_as_long_as_nobody_touches_it(pack, monkeypatch):
    seen = []
    monkeypatch.setattr("lipsound2.packs.pack.verify", seen.append)
    find_pack(pack)
    find_pack(pack)
    assert seen == [pack]
    (pack / "README.md").touch()
    find_pack(pack)
    assert seen == [pack, pack]


def test_missing_added_and_pickled_files_are_refused(pack):
    (pack / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"notes\.txt is not listed"):
        verify(pack)
    (pack / "notes.txt").rename(pack / "model.pt")
    with pytest.raises(CheckpointError, match="may be a pickle"):
        verify(pack)
    (pack / "model.pt").unlink()
    (pack / "README.md").unlink()
    with pytest.raises(CheckpointError, match=r"README\.md is missing"):
        verify(pack)
    (pack / "SHA256SUMS").unlink()
    with pytest.raises(CheckpointError, match="has no SHA256SUMS"):
        verify(pack)


@pytest.mark.parametrize(
    "name", [".DS_Store", "model/Thumbs.db", "model/desktop.ini", "__MACOSX/._pack.json", ".directory", ".git/config"]
)
def test_what_systems_leave_in_folders_is_no_part_of_a_pack(pack, name):
    (pack / name).parent.mkdir(exist_ok=True)
    (pack / name).write_bytes(b"junk")
    verify(pack)
    write_sums(pack)
    assert "junk" not in (pack / "SHA256SUMS").read_text()
    assert name not in (pack / "SHA256SUMS").read_text()


def test_checksums_are_read_as_any_system_writes_them(pack):
    sums = pack / "SHA256SUMS"
    lines = [line.split("  ") for line in sums.read_text().splitlines()]
    text = "".join(f"{digest.upper()} *./{name}\r\n" for digest, name in lines)
    sums.write_bytes(b"\xef\xbb\xbf" + text.encode())
    verify(pack)
    for name in ("../secret", "/etc/passwd", "a\\..\\b", "c:x", "model/../../x"):
        sums.write_text(f"{'0' * 64}  {name}\n")
        with pytest.raises(CheckpointError, match="outside of the pack"):
            verify(pack)
    sums.write_text("<!DOCTYPE html>\n<html>")
    with pytest.raises(CheckpointError, match=r"is a web page \(HTML\)"):
        verify(pack)


def test_a_pointer_in_the_place_of_weights_is_called_by_its_name(pack):
    path = pack / "model" / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="is a Git LFS pointer") as caught:
        verify(pack)
    assert "git lfs pull" in caught.value.hint
    with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
        load_weights(path)


def test_a_folder_that_is_no_pack(tmp_path):
    with pytest.raises(CheckpointError, match="neither a pack nor a training run"):
        find_pack(tmp_path)


def test_weights_of_another_shape_are_refused(pack):
    path = pack / "model" / "config.json"
    config = json.loads(path.read_text())
    config["encoder"]["lstm_dim"] = 9
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        packs.pack.load_model(pack / "model")
    config["encoder"]["what"] = 1
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="what"):
        packs.pack.load_model(pack / "model")


def test_a_pack_is_not_replaced_unasked(run, pack):
    info = PackInfo("mine", "2", "CC-BY-4.0", "six clips")
    with pytest.raises(CheckpointError, match="exists"):
        write_pack({"model": run}, pack, info, "# Mine\n")
    assert write_pack({"model": run}, pack, info, "# Mine\n", force=True).info.version == "2"
    assert find_pack(pack).info.version == "2"
    assert not list(pack.parent.glob(".*"))


def test_sha256sum_checks_a_pack(pack):
    import subprocess

    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=pack, check=True, capture_output=True)


def test_every_installed_pack_is_whole_small_and_has_a_card():
    installed = Path(packs.__file__).parent / "installed"
    folders = [path for path in installed.iterdir() if path.is_dir()]
    assert DEFAULT_PACK in {folder.name for folder in folders}
    for folder in folders:
        verify(folder)
        info = find_pack(folder).info
        assert info.name == folder.name
        assert info.scores
        card = (folder / "README.md").read_text()
        assert "Licence" in card
        assert "STOI" in card
    assert sum(p.stat().st_size for p in installed.rglob("*") if p.is_file()) < 80e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {"lstm_dim": 20_000}}, "does not fit its configuration"),
        ({"decoder": {"lstm_dim": 10**9}}, "at most"),
        ({"postnet": {"layers": 10**6}}, "at most 1000"),
        ({"postnet": {"layers": 900}}, "too few for the layers named"),
        ({"encoder": {"lstm_layers": 1000}}, "too few for the layers named"),
        ({"encoder": {"strides": [0, 1]}}, "sizes must be in 1"),
        ({"video": {"fps": 10**9}}, "at most 1000"),
        ({"audio": {"n_fft": 10**12}}, "at most 65536"),
        ({"postnet": []}, "not a valid ModelConfig"),
        ({"window": float("inf")}, "not a valid ModelConfig"),
    ],
)
def test_sizes_that_do_not_fit_the_weights_cost_nothing(pack, change, message):
    path = pack / "model" / "config.json"
    config = json.loads(path.read_text())
    for part, values in change.items():
        config[part] = config[part] | values if isinstance(values, dict) else values
    path.write_text(json.dumps(config))
    write_sums(pack)
    with pytest.raises(LipSoundError, match=message):
        find_pack(pack).load_model()


def test_the_card_has_front_matter(pack):
    card = (pack / "README.md").read_text()
    _, front, rest = card.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "cc-by-4.0"
    assert facts["datasets"] == ["five clips"]
    assert facts["metrics"] == ["stoi"]
    (result,) = facts["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "stoi", "name": "STOI", "value": 0.7}]
    assert rest == "\n# Mine\n"
    assert with_front_matter(card, "mine", "MIT", "", {}) == card
