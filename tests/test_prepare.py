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
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from makers import counting_video, flash_and_click

from lipsound2 import faces
from lipsound2.corpora import Clip, read_folder
from lipsound2.data import prepare as module
from lipsound2.data.prepare import PrepareConfig, prepare
from lipsound2.data.sample import Sample, SampleConfig, decode_crops, decode_wave, encode_crops
from lipsound2.data.shards import Entry, read_crops, read_index, read_member, read_wave, to_lines, write_shard
from lipsound2.errors import DataError, FaceError, StorageError
from lipsound2.runtime.claims import Share, claim
from lipsound2.runtime.executors import Outcome
from lipsound2.runtime.names import sample_key


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
    monkeypatch.setattr(module.Processes, "run", lambda *_: pytest.fail("nothing was left to do"))
    before = contents(prepared)
    assert prepare(read_folder(clips), prepared, PrepareConfig(shard_size=4)).failures == 0
    assert contents(prepared) == before


def test_other_settings_are_refused(clips, prepared):
    with pytest.raises(DataError, match="begun with other settings: shard_size 4, not 5"):
        prepare(read_folder(clips), prepared, PrepareConfig(shard_size=5))
    with pytest.raises(DataError, match=r"other settings: max_mismatch 0\.25, not 0\.5$"):
        prepare(read_folder(clips), prepared, PrepareConfig(SampleConfig(max_mismatch=0.5), shard_size=4))
    wanted = list(read_folder(clips))
    with pytest.raises(DataError, match=f"other clips: 1 are gone, such as {wanted[-1].id}"):
        prepare(wanted[:-1], prepared, PrepareConfig(shard_size=4))
    with pytest.raises(DataError, match="other clips: 1 are new, such as newcomer") as caught:
        prepare([*wanted, replace(wanted[0], id="newcomer")], prepared, PrepareConfig(shard_size=4))
    assert "lipsound2 join" in caught.value.hint
    moved = {"train": "test", "test": "train", "val": "train"}[wanted[0].split]
    with pytest.raises(DataError, match=f"1 are in another split, such as {wanted[0].id}"):
        prepare([replace(wanted[0], split=moved), *wanted[1:]], prepared, PrepareConfig(shard_size=4))


def instead_of_work(made: list[str]):
    """What stages small samples in the place of faces and sound."""

    class Executor:
        def run(self, worker, tasks):
            for task in tasks:
                made.append(task.clip.id)
                meta = {
                    "id": task.clip.id,
                    "split": task.clip.split,
                    "speaker": "ann",
                    "fps": 25,
                    "sample_rate": 16_000,
                }
                if "bad" in task.clip.id:
                    yield Outcome(task, DataError("bad"))
                    continue
                write_shard(task.sample, [Sample(sample_key(task.clip.id), {"json": json.dumps(meta).encode()}, meta)])
                yield Outcome(task)

    return lambda workers: Executor()


def invented(*ids: str) -> list[Clip]:
    return [Clip(name, Path(f"{name}.mp4"), "ann", "train") for name in ids]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def swap_headers(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes(512) + data[512:])


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (lambda folder: (folder / "train-00000.tar").unlink(), ["a", "b"]),
        (lambda folder: cut_off(folder / "train-00001.tar"), ["c"]),
        (lambda folder: swap_headers(folder / "train-00001.tar"), ["c"]),
        (lambda folder: (folder / "index.jsonl").write_text('{"key'), []),
        (lambda folder: (folder / "index.jsonl").write_text(""), []),
        (lambda folder: (folder / "failures.jsonl").unlink(), ["c", "bad"]),
    ],
)
def test_a_second_call_makes_what_is_damaged_anew_and_nothing_else(tmp_path, monkeypatch, damage, again):
    made: list[str] = []
    monkeypatch.setattr(module, "Processes", instead_of_work(made))
    wanted, config = invented("a", "b", "c", "bad", "d"), PrepareConfig(shard_size=2)
    assert prepare(wanted, tmp_path, config)[:2] == (4, 1)
    before = contents(tmp_path)
    made.clear()
    assert prepare(wanted, tmp_path, config)[:2] == (4, 1)
    assert made == []
    damage(tmp_path)
    assert prepare(wanted, tmp_path, config)[:2] == (4, 1)
    assert sorted(set(made) - {"bad"}) == sorted(set(again) - {"bad"})
    assert contents(tmp_path) == before


def test_names_that_differ_in_a_sign_alone_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Processes", instead_of_work([]))
    names = ("clip 1", "clip.1", "clip_1", "line\u2028feed", "s\\xe9")
    prepare(invented(*names), tmp_path, PrepareConfig())
    entries = read_index(tmp_path)
    assert [entry.meta["id"] for entry in entries] == list(names)
    assert len({entry.key for entry in entries}) == len(names)
    old = [replace(entry, key="clip_1") for entry in entries[:3]]
    (tmp_path / "index.jsonl").write_text(to_lines(old), encoding="utf-8")
    assert len({entry.key for entry in read_index(tmp_path)}) == 3


def test_a_failure_of_a_clip_whose_path_is_no_text_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Processes", instead_of_work([]))
    clip = Clip("bad", Path("s\udce9.mp4"), "ann", "train")
    assert prepare([clip], tmp_path, PrepareConfig())[:2] == (0, 1)
    assert "s\\\\xe9.mp4" in (tmp_path / "failures.jsonl").read_text()


def test_two_at_once_do_not_work_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Processes", instead_of_work([]))
    holder = rf"another prepare \(process {os.getpid()} on .*\) is working in"
    with claim(tmp_path, "prepare"), pytest.raises(StorageError, match=holder):
        prepare(invented("a"), tmp_path, PrepareConfig())
    assert prepare(invented("a"), tmp_path, PrepareConfig())[:2] == (1, 0)


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "Processes", instead_of_work([]))

    def unknown(*_args, **_kwargs):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("lipsound2.runtime.claims.FileLock.acquire", unknown)
    assert prepare(invented("a"), tmp_path, PrepareConfig())[:2] == (1, 0)
    assert "cannot be locked" in " ".join(capsys.readouterr().err.split())


def broken_detector():
    raise FaceError("yunet.onnx is a web page (HTML)")


def test_a_detector_that_cannot_be_loaded_is_one_error(clips, tmp_path):
    with pytest.raises(FaceError, match="web page"):
        prepare(read_folder(clips), tmp_path, PrepareConfig(workers=1), broken_detector)


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
    assert summary[:2] == (good, 4)
    rows = [json.loads(line) for line in (output / "failures.jsonl").read_text().splitlines()]
    reasons = {row["clip"]: row["reason"] for row in rows}
    assert "has no audio" in reasons["no sound"]
    assert "no face" in reasons["no face"]
    assert "not a media file" in reasons["text"]
    assert "empty" in reasons["empty"]
    assert calls[-1][:2] == (good + 4, good + 4)
    assert not (output / ".staging").exists()


def test_sound_that_is_too_short_is_dropped(clips, tmp_path):
    first = next(iter(read_folder(clips)))
    strict = PrepareConfig(SampleConfig(max_mismatch=-1.0), workers=1)
    assert prepare([first], tmp_path, strict)[:2] == (0, 1)
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


@pytest.mark.parametrize(
    "change",
    [{"key": []}, {"shard": 3}, {"shard": "../x.tar"}, {"members": {"mp4": [-1, 5]}}, {"members": [1]}, {"meta": {}}],
)
def test_an_index_that_makes_no_sense_is_one_line(prepared, tmp_path, change):
    lines = (prepared / "index.jsonl").read_text().splitlines()
    (tmp_path / "index.jsonl").write_text("\n".join([json.dumps(json.loads(lines[0]) | change), *lines[1:]]))
    with pytest.raises(DataError, match=r"index.jsonl is damaged"):
        read_index(tmp_path)


def test_members_that_a_shard_does_not_hold_are_one_line(prepared):
    entry = read_index(prepared)[0]
    for offset, size in ((0, 10**15), (10**30, 1)):
        damaged = replace(entry, members=dict(entry.members) | {"flac": (offset, size)})
        with pytest.raises(DataError, match="shorter than its index says"):
            read_wave(prepared, damaged)
    with pytest.raises(DataError, match="holds no flac of the clip"):
        read_wave(prepared, replace(entry, members={}))


def test_damaged_members_name_shard_and_clip(prepared, tmp_path):
    entry = read_index(prepared)[0]
    shutil.copy(prepared / entry.shard, tmp_path)
    with (tmp_path / entry.shard).open("r+b") as file:
        for offset, size in entry.members.values():
            file.seek(offset)
            file.write(bytes(size))
    for read in (lambda: read_wave(tmp_path, entry), lambda: read_crops(tmp_path, entry, 1)):
        with pytest.raises(DataError, match=f"{entry.shard}: the clip {entry.meta['id']} is damaged") as caught:
            read()
        assert "object at" not in caught.value.message


@pytest.fixture
def stand_in(monkeypatch):
    """What makes samples in the place of workers, and the clips that it made."""
    made: list[str] = []
    monkeypatch.setattr(module, "Processes", instead_of_work(made))
    return made


SEVEN = invented("a", "b", "c", "bad", "d", "e", "f")


def test_shares_end_with_the_bytes_of_one_run(tmp_path, stand_in):
    config = PrepareConfig(shard_size=2)
    assert prepare(SEVEN, tmp_path / "alone", config)[:2] == (6, 1)
    stand_in.clear()
    assert prepare(SEVEN, tmp_path / "shared", config, share=Share(2, 3))[:2] == (1, 1)
    assert stand_in == ["c", "bad"]
    assert prepare(SEVEN, tmp_path / "shared", config, share=Share(1, 3))[:2] == (3, 0)
    assert not (tmp_path / "shared" / "index.jsonl").exists()
    assert prepare(SEVEN, tmp_path / "shared", config, share=Share(3, 3))[:2] == (6, 1)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert prepare(SEVEN, tmp_path / "shared", config, share=Share(3, 3))[:2] == (6, 1)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_a_run_for_all_takes_over_from_shares(tmp_path, stand_in):
    config = PrepareConfig(shard_size=2)
    prepare(SEVEN, tmp_path / "alone", config)
    prepare(SEVEN, tmp_path / "shared", config, share=Share(2, 2))
    stand_in.clear()
    assert prepare(SEVEN, tmp_path / "shared", config)[:2] == (6, 1)
    assert stand_in == ["a", "b", "d", "e"]
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_shares_of_a_damaged_folder_mend_it_together(tmp_path, stand_in):
    config = PrepareConfig(shard_size=2)
    prepare(SEVEN, tmp_path, config)
    before = contents(tmp_path)
    cut_off(tmp_path / "train-00001.tar")
    stand_in.clear()
    prepare(SEVEN, tmp_path, config, share=Share(1, 2))
    assert stand_in == []
    assert prepare(SEVEN, tmp_path, config, share=Share(2, 2))[:2] == (6, 1)
    assert stand_in == ["c", "bad"]
    assert contents(tmp_path) == before


def test_progress_tells_clips_and_seconds_of_samples(clips, tmp_path):
    told = []
    clip = next(iter(read_folder(clips)))
    prepare([clip], tmp_path, PrepareConfig(workers=1), progress=lambda *each: told.append(each))
    (entry,) = read_index(tmp_path)
    assert told == [(0, 1, 0.0), (1, 1, entry.meta["frames"] / 25)]


def test_a_folder_that_a_worker_does_not_share_is_one_line(tmp_path, monkeypatch):
    class Elsewhere:
        def run(self, worker, tasks):
            yield from map(Outcome, tasks)

    with pytest.raises(StorageError, match=r"000000\.tar was written by a worker and is not there"):
        prepare(invented("a"), tmp_path, PrepareConfig(), executor=Elsewhere())


def test_planning_asks_the_file_system_nothing_of_each_clip(tmp_path, monkeypatch):
    asked = []
    look = Path.stat

    def counted(path, **options):
        asked.append(path)
        return look(path, **options)

    class StoppedError(Exception):
        pass

    class NoWork:
        def __init__(self, _count):
            pass

        def run(self, _worker, items):
            assert len(items) == 600
            raise StoppedError

    monkeypatch.setattr(module, "Processes", NoWork)
    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(2):
        with pytest.raises(StoppedError):
            prepare(invented(*(f"s/{number}" for number in range(600))), tmp_path, PrepareConfig())
    assert len(asked) < 100


def test_an_index_of_many_clips_takes_little_memory(tmp_path):
    members = {"flac": (512, 101_234), "json": (102_400, 205), "mp4": (103_424, 98_765)}
    meta = {"first_frame": 0, "fps": 25, "frames": 200, "sample_rate": 16_000, "transcript": None}
    names = [f"id{number % 50:05d}/21Uxsk56VDQ/{number:05d}" for number in range(3000)]
    rows = [
        Entry(name, "train-00000.tar", members, meta | {"id": name, "speaker": name[:7], "split": "train"})
        for name in names
    ]
    (tmp_path / "index.jsonl").write_text(to_lines(rows))
    tracemalloc.start()
    entries = read_index(tmp_path)
    each = tracemalloc.get_traced_memory()[0] / len(entries)
    tracemalloc.stop()
    assert [(entry.key, dict(entry.members), entry.meta) for entry in entries] == [
        (row.key, members, row.meta) for row in rows
    ]
    assert to_lines(entries) == to_lines(rows)
    assert each < 900


def test_crops_stay_sharp_and_small(prepared):
    crops = decode_crops(read_member(prepared, read_index(prepared)[0], "mp4"))[:25]
    data = encode_crops(crops, 25, SampleConfig().quality)
    error = np.mean((decode_crops(data).astype(float) - crops) ** 2)
    assert 10 * np.log10(255**2 / error) > 38
    assert len(data) < 2500 * len(crops)
