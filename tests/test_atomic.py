import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lipsound2.errors import StorageError
from lipsound2.runtime.atomic import atomic_path, sweep, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new folder" / "a.txt"
    write_text(target, "old")

    def break_off() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
    for text in ("one", "two"):
        with atomic_path(tmp_path / "folder") as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / "file").write_text(text)
    assert (tmp_path / "folder" / "deep" / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_many_writers_in_one_folder_do_not_disturb_each_other(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_text(tmp_path / f"{i}", str(i)), range(400)))
    assert len(list(tmp_path.iterdir())) == 400


def test_what_the_file_system_refuses_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write") as caught:
        write_text(tmp_path / "file" / "below", "x")
    assert caught.value.hint


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EACCES, errno.ENOTSUP])
def test_a_flush_that_the_system_refuses_is_no_error(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, "refused")))
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_flush_that_lost_data_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StorageError, match="No space left") as caught:
        write_text(tmp_path / "a.txt", "whole")
    assert "free some space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_rules_of_windows_for_descriptors(tmp_path, monkeypatch):
    """There a folder cannot be opened, and what is open for reading only cannot be flushed."""
    opened, open_, fsync = {}, os.open, os.fsync

    def windows_open(path, flags, *more):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        descriptor = open_(path, flags, *more)
        opened[descriptor] = flags
        return descriptor

    def windows_fsync(descriptor):
        if not opened[descriptor] & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flushed.append(descriptor)
        fsync(descriptor)

    flushed = []
    monkeypatch.setattr(os, "open", windows_open)
    monkeypatch.setattr(os, "fsync", windows_fsync)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert len(flushed) == 1


def test_the_hint_names_the_real_reason(tmp_path):
    with pytest.raises(StorageError) as caught:
        write_text(tmp_path / ("x" * 300), "too long")
    assert "shorter name" in caught.value.hint


def test_every_name_that_fits_can_be_written(tmp_path):
    for name in ("x" * 251 + ".wav", "日" * 85, os.fsdecode(b"caf\xe9.wav"), "[b]:a b.wav"):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"


def test_what_a_killed_process_left_is_swept_and_the_rest_stays(tmp_path):
    code = (
        "import os, pathlib, sys; from lipsound2.runtime.atomic import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1]) / 'a') as t: t.write_text('half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (tmp_path / "whole.part").touch()
    (tmp_path / ".mine.part").touch()
    assert len(list(tmp_path.iterdir())) == 3
    with atomic_path(tmp_path / "b") as temporary:
        temporary.touch()
        sweep(tmp_path)
        assert temporary.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "b", "whole.part"]
