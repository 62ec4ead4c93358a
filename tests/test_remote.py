"""Folders in an object store: fsspec's own one in memory stands for any, and moto's server for S3."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fsspec
import pytest
import torch
from test_model import make, tiny
from test_prepare import contents, instead_of_work, invented

from lipsound2.config import AudioConfig, VideoConfig
from lipsound2.corpora import read_folder
from lipsound2.data import prepare as module
from lipsound2.data.dataset import ClipDataset, EpochBatches, Place
from lipsound2.data.prepare import PrepareConfig, prepare
from lipsound2.data.shards import read_crops, read_index
from lipsound2.errors import DataError, LipSoundError, MissingExtraError
from lipsound2.runtime import remote
from lipsound2.runtime.claims import Share
from lipsound2.runtime.executors import InProcess
from lipsound2.training.config import MelLossConfig
from lipsound2.training.loading import load_batches
from lipsound2.training.tasks.lip2mel import MelTask

CLIPS = invented("a", "b", "c", "bad", "d", "e", "f")
TWO = PrepareConfig(shard_size=2)


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """A URL in a store that is empty, and a machine that has no working folders yet."""
    monkeypatch.setenv("LIPSOUND2_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield Path("memory://bucket")
    system.store.clear()


def stored(folder: Path) -> dict[str, bytes]:
    return {name: remote.read(folder / name) for name in remote.sizes(folder) if not name.startswith(".staging/")}


def another_machine(monkeypatch, tmp_path, name: str) -> None:
    monkeypatch.setenv("LIPSOUND2_CACHE", str(tmp_path / name))


@pytest.fixture
def made(monkeypatch) -> list[str]:
    made: list[str] = []
    monkeypatch.setattr(module, "Processes", instead_of_work(made))
    return made


def test_urls_are_told_from_folders():
    for url in ("s3://bucket/a/b", "gs://bucket", "memory://x/y.tar"):
        assert remote.is_remote(Path(url))
        assert remote.url_of(Path(url)) == url
    for path in ("a:/b", "/s3:/x", "folder/x", "s3:", "C:/x"):
        assert not remote.is_remote(Path(path)), path


def test_a_stored_folder_has_the_bytes_of_a_local_one(bucket, made, tmp_path):
    assert prepare(CLIPS, tmp_path / "local", TWO)[:2] == (6, 1)
    assert prepare(CLIPS, bucket / "out", TWO)[:2] == (6, 1)
    assert stored(bucket / "out") == contents(tmp_path / "local")
    assert list((tmp_path / "cache").rglob("*.tar")) == []
    made.clear()
    assert prepare(CLIPS, bucket / "out", TWO)[:2] == (6, 1)
    assert made == []
    with pytest.raises(DataError, match="begun with other settings: shard_size 2, not 3"):
        prepare(CLIPS, bucket / "out", PrepareConfig(shard_size=3))


def test_another_machine_goes_on_from_what_is_stored(bucket, made, tmp_path, monkeypatch):
    prepare(CLIPS, tmp_path / "local", TWO)
    work = remote.store

    def stop(source, path):
        if path.name == "index.jsonl":
            raise KeyboardInterrupt
        work(source, path)

    with monkeypatch.context() as patch:
        patch.setattr(remote, "store", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(CLIPS, bucket / "out", TWO)
    remote.remove([bucket / "out" / ".staging" / "train-00001.jsonl"])  # as if it had been stopped before it
    another_machine(monkeypatch, tmp_path, "other")
    made.clear()
    assert prepare(CLIPS, bucket / "out", TWO)[:2] == (6, 1)
    assert made == ["c", "bad"]
    assert stored(bucket / "out") == contents(tmp_path / "local")


def test_a_shard_that_is_gone_is_prepared_again(bucket, made, tmp_path, capsys):
    prepare(CLIPS, bucket / "out", TWO)
    before = stored(bucket / "out")
    remote.remove([bucket / "out" / "train-00000.tar"])
    made.clear()
    assert prepare(CLIPS, bucket / "out", TWO)[:2] == (6, 1)
    assert made == ["a", "b"]
    assert stored(bucket / "out") == before
    assert "memory://bucket/out: 1 shards are gone" in " ".join(capsys.readouterr().err.split())


def test_machines_that_share_nothing_but_the_store_do_shares(bucket, made, tmp_path, monkeypatch):
    prepare(CLIPS, tmp_path / "local", TWO)
    for number in (3, 1, 2):
        another_machine(monkeypatch, tmp_path, f"machine {number}")
        prepare(CLIPS, bucket / "out", TWO, share=Share(number, 3))
        assert remote.exists(bucket / "out" / "index.jsonl") == (number == 2)
    assert stored(bucket / "out") == contents(tmp_path / "local")


def test_a_corpus_is_read_and_its_clips_fetched_one_by_one(bucket, clips, tmp_path, capsys):
    source = tmp_path / "in"
    shutil.copytree(clips, source)
    (source / "broken.mp4").write_bytes(b"no video " * 50)
    for path in source.rglob("*.*"):
        remote.store(path, bucket / "in" / path.relative_to(source).as_posix())
    mirror = remote.make_mirror(bucket / "in", [".mp4"])
    assert [path.stat().st_blocks for path in mirror.folder.rglob("*.mp4")] == [0] * len(list(source.rglob("*.mp4")))
    found, wanted = list(read_folder(mirror.folder)), list(read_folder(source))
    assert [(c.id, c.speaker, c.transcript) for c in found if c.id != "broken"] == [
        (c.id, c.speaker, c.transcript) for c in wanted if c.id != "broken"
    ]
    chosen = [clip for clip in found if clip.id in (wanted[0].id, wanted[1].id, "broken")]
    same = [clip for clip in wanted if clip.id in {each.id for each in chosen}]
    assert prepare(chosen, tmp_path / "a", TWO, executor=InProcess(), mirror=mirror)[1] == 1
    prepare(same, tmp_path / "b", TWO, executor=InProcess())
    tars = {name: data for name, data in contents(tmp_path / "b").items() if name.endswith(".tar")}
    assert {name: data for name, data in contents(tmp_path / "a").items() if name.endswith(".tar")} == tars
    (failure,) = (tmp_path / "a" / "failures.jsonl").read_text().splitlines()
    assert failure.count("memory://bucket/in/broken.mp4") == 2
    assert "/tmp" not in failure


def test_a_data_set_reads_what_it_needs_from_the_store(bucket, prepared):
    for path in prepared.iterdir():
        remote.store(path, bucket / "out" / path.name)
    here, there = (ClipDataset(f, "train", AudioConfig(), VideoConfig()) for f in (prepared, bucket / "out"))
    for place in (Place(0, 0), Place(0, 1)):
        assert torch.equal(here[place].crops, there[place].crops)
        assert torch.equal(here[place].wave, there[place].wave)
    entry = read_index(bucket / "out")[0]
    remote.store(prepared / "index.jsonl", bucket / "out" / entry.shard)
    with pytest.raises(DataError, match=r"shorter than its index says|is damaged"):
        read_crops(bucket / "out", entry, 1)
    remote.remove([bucket / "out" / entry.shard])
    with pytest.raises(LipSoundError, match=rf"memory://bucket/out/{entry.shard} cannot be read"):
        read_crops(bucket / "out", entry, 1)
    with pytest.raises(DataError, match=r"holds no index\.jsonl"):
        read_index(bucket / "nothing")


def test_a_store_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError) as caught:
        remote.exists(Path("s3://bucket/x"))
    assert "lipsound2[cloud]" in caught.value.hint


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """An empty bucket of a local server of S3."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LIPSOUND2_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        fsspec.filesystem("s3").mkdir("bucket")
        yield Path("s3://bucket")
    finally:
        server.kill()
        server.wait()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_from_s3_to_s3_by_the_command_and_into_a_data_set(s3, clips, prepared, tmp_path):
    for path in clips.rglob("*.*"):
        remote.store(path, s3 / "in" / path.relative_to(clips).as_posix())
    command = [sys.executable, "-m", "lipsound2", "prepare", "folder", "s3://bucket/in", "-o", "s3://bucket/out"]
    done = subprocess.run([*command, "--shard-size", "4", "--workers", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s3://bucket/out: ")
    assert stored(s3 / "out") == contents(prepared)
    there, here = ClipDataset(s3 / "out"), ClipDataset(prepared)
    assert remote.in_use()
    task = MelTask(make(tiny()), there, there, MelLossConfig())
    stacked = next(load_batches(task, EpochBatches(len(there), 2, shuffle=False), 1, False))
    assert torch.equal(stacked.crops, here.batch([here[Place(0, 0)], here[Place(0, 1)]]).crops)
