import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from makers import counting_video, flash_and_click

from lipsound2 import faces
from lipsound2.corpora import read_folder
from lipsound2.data import prepare as module
from lipsound2.data.prepare import PrepareConfig, prepare
from lipsound2.data.sample import SampleConfig, decode_crops, decode_wave, encode_crops
from lipsound2.data.shards import read_index, read_member
from lipsound2.errors import DataError, StorageError


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_shards_hold_faces_sound_and_what_is_known(clips, prepared):
    entries = read_index(prepared)
    wanted = list(read_folder(clips))
    assert sorted(entry.meta["id"] for entry in entries) == sorted(clip.id for clip in wanted)
    entry = entries[0]
    crops = decode_crops(read_member(prepared, entry, "mp4"))
    wave = decode_wave(read_member(prepared, entry, "flac"))
    assert crops.shape == (entry.meta["frames"], faces.CANVAS, faces.CANVAS, 3)
    assert len(wave) == entry.meta["frames"] * 640
    assert np.abs(wave).max() > 0.05
    assert json.loads(read_member(prepared, entry, "json")) == entry.meta
    assert {e.meta["transcript"] for e in entries} == {clip.transcript for clip in wanted}
    (face,) = faces.MtcnnDetector().detect(crops[len(crops) // 2])
    assert np.abs(face.landmarks - faces.TEMPLATE).mean() < 10


def test_plain_tar_and_webdataset_read_the_shards(prepared):
    entries = read_index(prepared)
    for shard in {entry.shard for entry in entries}:
        with tarfile.open(prepared / shard) as tar:
            names = [name for e in entries if e.shard == shard for name in (f"{e.key}.{s}" for s in sorted(e.members))]
            assert tar.getnames() == names
    wds = pytest.importorskip("webdataset")
    shards = sorted(str(prepared / shard) for shard in {entry.shard for entry in entries})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the collector
        samples = list(wds.WebDataset(shards, shardshuffle=False))
        gc.collect()
    assert sorted(s["__key__"] for s in samples) == sorted(e.key for e in entries)
    assert all(set(s) >= {"mp4", "flac", "json"} for s in samples)


def test_the_same_faces_always_give_the_same_bytes(prepared):
    crops = decode_crops(read_member(prepared, read_index(prepared)[0], "mp4"))
    assert len({encode_crops(crops, 25, 12) for _ in range(5)}) == 1


def test_a_second_call_finds_all_done(clips, prepared, monkeypatch):
    monkeypatch.setattr(module, "_run_pool", lambda *_: pytest.fail("nothing was left to do"))
    before = contents(prepared)
    assert prepare(read_folder(clips), prepared, PrepareConfig(shard_size=4)).failures == 0
    assert contents(prepared) == before


def test_other_settings_are_refused(clips, prepared):
    with pytest.raises(DataError, match="begun with other"):
        prepare(read_folder(clips), prepared, PrepareConfig(shard_size=5))
    with pytest.raises(DataError, match="begun with other"):
        prepare(list(read_folder(clips))[:-1], prepared, PrepareConfig(shard_size=4))


@pytest.fixture
def mixed(clips, tmp_path) -> Path:
    """Good clips and every kind of bad one."""
    folder = tmp_path / "mixed clips"
    shutil.copytree(clips, folder)
    counting_video(folder / "no sound.mp4", 25, 1.0)
    flash_and_click(folder / "no face.mkv", "libx264", "flac")
    (folder / "text.mp4").write_text("no video " * 50)
    (folder / "empty.mp4").touch()
    return folder


def test_bad_clips_are_recorded_with_their_reason_and_stop_nothing(mixed, tmp_path):
    output = tmp_path / "out"
    calls = []
    summary = prepare(read_folder(mixed), output, PrepareConfig(workers=1), progress=lambda *x: calls.append(x))
    good = len(list(read_folder(mixed))) - 4
    assert summary == (good, 4)
    rows = [json.loads(line) for line in (output / "failures.jsonl").read_text().splitlines()]
    reasons = {row["clip"]: row["reason"] for row in rows}
    assert "has no sound" in reasons["no sound"]
    assert "no face" in reasons["no face"]
    assert "not a media file" in reasons["text"]
    assert "empty" in reasons["empty"]
    assert calls[-1] == (good + 4, good + 4)
    assert not (output / ".staging").exists()


def test_sound_that_is_too_short_is_dropped(clips, tmp_path):
    first = next(iter(read_folder(clips)))
    strict = PrepareConfig(SampleConfig(max_mismatch=-1.0), workers=1)
    assert prepare([first], tmp_path, strict) == (0, 1)
    (row,) = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert "differ by more than" in row


class Killer:
    """A detector that kills its worker on one clip; others it treats like MTCNN."""

    def __init__(self):
        self.mtcnn = faces.MtcnnDetector()

    def detect(self, image):
        if image.shape[:2] == (48, 64):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.mtcnn.detect(image)


def test_a_clip_that_kills_its_worker_costs_only_itself(clips, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(clips, source)
    flash_and_click(source / "deadly.mkv", "libx264", "flac")
    summary = prepare(read_folder(source), tmp_path / "out", PrepareConfig(workers=2), Killer)
    assert summary.failures == 1
    assert "worker process died" in (tmp_path / "out" / "failures.jsonl").read_text()


def test_a_full_disk_stops_with_its_name_and_work_goes_on_after(clips, tmp_path, monkeypatch):
    def full(*_args):
        raise StorageError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", full)
        with pytest.raises(StorageError, match="No space left"):
            prepare(read_folder(clips), tmp_path / "a", PrepareConfig(shard_size=4, workers=1))
    assert prepare(read_folder(clips), tmp_path / "a", PrepareConfig(shard_size=4, workers=1)).failures == 0
    prepare(read_folder(clips), tmp_path / "b", PrepareConfig(shard_size=4, workers=1))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_clips_with_one_id_are_refused(clips, tmp_path):
    clip = next(iter(read_folder(clips)))
    with pytest.raises(DataError, match="not unique"):
        prepare([clip, clip], tmp_path, PrepareConfig())
    twins = [clip, replace(clip, id="other")]
    assert prepare(twins, tmp_path, PrepareConfig(workers=1)).samples == 2


def test_killed_at_any_moment_it_ends_the_same(mixed, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code = (
        "import sys; from pathlib import Path\n"
        "from lipsound2.corpora import read_folder\n"
        "from lipsound2.data.prepare import *\n"
        "if __name__ == '__main__':\n"
        "    prepare(read_folder(Path(sys.argv[1])), Path(sys.argv[2]), PrepareConfig(shard_size=3, workers=2))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(mixed)]
    begun = time.monotonic()
    subprocess.run([*command, str(whole)], check=True)
    seconds = time.monotonic() - begun
    rng = random.Random(0)
    kills = 0
    for _ in range(8):
        process = subprocess.Popen([*command, str(killed)])
        try:
            process.wait(timeout=rng.uniform(0.3, 0.7) * seconds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
    subprocess.run([*command, str(killed)], check=True)
    assert kills > 0
    assert contents(killed) == contents(whole)
