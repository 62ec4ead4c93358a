from concurrent.futures import ThreadPoolExecutor

import pytest

from lipsound2.atomic import atomic_path, write_text
from lipsound2.errors import StorageError


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
