"""Packs from a URL, a folder or an archive, verified and under their name."""

import json
import shutil
import zipfile
from hashlib import sha256

import pytest
from test_download import BODY, QUICK, server
from typer.testing import CliRunner

from lipsound2.cli import app
from lipsound2.errors import LipSoundError
from lipsound2.packs import find_pack
from lipsound2.packs.add import add_pack, remove_pack
from lipsound2.packs.pack import user_folder, write_sums

__all__ = ["server"]


@pytest.fixture
def ours(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSOUND2_CACHE", str(tmp_path / "cache"))
    return made(tmp_path / "made" / "x", "ours")


def made(folder, name):
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(BODY)
    info = {"name": name, "version": "1", "licence": "CC0-1.0", "trained_on": "nothing"}
    (folder / "pack.json").write_text(json.dumps(info))
    write_sums(folder)
    return folder


def serve(server, folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    server.files.update({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})


def test_a_folder_and_an_archive_are_added_once(ours, tmp_path):
    done = CliRunner().invoke(app, ["packs", "add", str(ours)])
    assert done.exit_code == 0, done.exception
    assert find_pack("ours").folder == user_folder() / "ours"
    assert "CC0-1.0" in CliRunner().invoke(app, ["packs"]).output
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", ours)
    with pytest.raises(LipSoundError, match="exists"):
        add_pack(archive)
    assert add_pack(archive, force=True).info.name == "ours"


def test_an_added_pack_and_no_other_is_removed(ours):
    add_pack(str(ours))
    for name in ("grid-s1", "..", ".", "", str(ours)):
        with pytest.raises(LipSoundError, match="no pack that was added"):
            remove_pack(name)
    assert CliRunner().invoke(app, ["packs", "remove", "ours"]).exit_code == 0
    assert not (user_folder() / "ours").exists()


@pytest.mark.parametrize("manner", ["good", "drops"])
def test_an_archive_is_fetched_from_a_url(server, ours, tmp_path, manner):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in ours.rglob("*"):
            opened.write(path, path.relative_to(ours.parent))
    server.files["a.zip"] = archive.read_bytes()
    found = add_pack(f"{server.url}/{manner}/a.zip", patience=QUICK)
    assert (found.folder / "model" / "model.safetensors").read_bytes() == BODY
    assert {path.name for path in user_folder().parent.iterdir()} - {"incoming", "packs"} <= {".claims", ".packs.lock"}
    assert not list((user_folder().parent / "incoming").iterdir())


def test_how_much_is_fetched_has_a_limit_that_can_be_lifted(server, ours):
    serve(server, ours)
    with pytest.raises(LipSoundError, match="the limit leaves") as caught:
        add_pack(f"{server.url}/good", patience=QUICK, largest=len(BODY) / 1e9)
    assert "--max-gb" in caught.value.hint
    assert add_pack(f"{server.url}/good", patience=QUICK, largest=1.0).info.name == "ours"


@pytest.mark.parametrize("manner", ["good", "drops"])
def test_a_url_is_fetched_whole_and_leaves_nothing_else(server, ours, manner):
    serve(server, ours)
    digits = sha256((ours / "SHA256SUMS").read_bytes()).hexdigest()
    found = add_pack(f"{server.url}/{manner}/", digits, patience=QUICK)
    assert (found.folder / "model" / "model.safetensors").read_bytes() == BODY
    assert not list((user_folder().parent / "incoming").iterdir())


def test_what_is_not_as_promised_is_not_installed(server, ours, tmp_path):
    serve(server, ours)
    with pytest.raises(LipSoundError, match="checksum"):
        add_pack(f"{server.url}/good", "0" * 64, patience=QUICK)
    with pytest.raises(LipSoundError, match="checksum"):
        add_pack(str(ours), "0" * 64)
    server.files["pack.json"] = b"{}"
    with pytest.raises(LipSoundError, match="checksum"):
        add_pack(f"{server.url}/good", patience=QUICK)
    server.files["SHA256SUMS"] = f"{'0' * 64}  ../evil\n".encode()
    with pytest.raises(LipSoundError, match="outside"):
        add_pack(f"{server.url}/good", patience=QUICK)
    for name in ("../evil", "", "a/b", "nul", "."):
        with pytest.raises(LipSoundError, match="cannot be the name"):
            add_pack(str(made(tmp_path / f"n{len(name)}{name[:1] == 'n'}", name)))
    (ours / "x.pkl").write_bytes(b"x")
    write_sums(ours)
    with pytest.raises(LipSoundError, match="pickle"):
        add_pack(str(ours))
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(LipSoundError, match="outside"):
        add_pack(str(tmp_path / "e.zip"))
    assert not user_folder().exists()
