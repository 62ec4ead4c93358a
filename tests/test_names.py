from pathlib import Path

import pytest

from lipsound2.runtime.names import LONGEST, clip_id, file_name, is_folder, sample_key


def test_plain_ids_keep_their_names():
    for name in ("s1/bbaf2n", "anna/test/two_2-b", "é/ü", "con2/x"):
        assert sample_key(name) == file_name(name) == name


def test_different_ids_have_different_keys_and_files():
    ids = ["clip 1", "clip.1", "clip_1", "clip%201", "clip 1.", "clip\u00e9", "clipe\u0301", "a/b", "a b"]
    ids += ["a\\b", "a:b", "Clip_1", "CLIP_1", "clip~1", "nul", "NUL", "nul.1"]
    ids += ["x" * 300, "x" * 299 + "y", "x" * 300 + "/x"]
    assert len({sample_key(name) for name in ids}) == len(ids)
    assert len({file_name(name).casefold() for name in ids}) == len(ids)


@pytest.mark.parametrize("name", ["CON", "aux/NUL", "com1", "a.", "a ", "<a>", "a:b", 'a"b', "a|b", "a?b*", "é" * 200])
def test_every_system_takes_the_files(name):
    for part in file_name(name).split("/"):
        assert not set(part) & set('<>:"\\|?* .')
        assert part.split("~")[0] != part or part.lower() not in ("con", "nul", "aux", "com1")
        assert len(part.encode()) <= LONGEST


def test_bytes_that_are_no_text_become_text():
    path = Path("s\udce9/x")
    assert clip_id(path) == "s\\xe9/x"
    sample_key(clip_id(path)).encode()


def test_what_cannot_be_a_name_is_no_folder(tmp_path):
    assert is_folder(tmp_path)
    assert is_folder(str(tmp_path))
    for name in ("x" * 5000, "a\0b", str(tmp_path / "nothing")):
        assert not is_folder(name)
