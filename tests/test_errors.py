import errno
import os

import numpy as np
import pytest

from lipsound2 import errors
from lipsound2.errors import DataError, FaceError, InternalError, LipSoundError, MediaError, guard


def raised(error: Exception) -> LipSoundError:
    with pytest.raises(LipSoundError) as caught, guard("a clip.mp4"):
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        EOFError(),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"),
    ],
)
def test_what_the_system_says_of_an_input_is_its_error(error):
    found = raised(error)
    assert type(found) is MediaError
    assert found.message.startswith("a clip.mp4")
    assert "\n" not in found.message
    assert found.hint


def test_what_a_package_that_decodes_says_is_an_error_of_the_input():
    import av.error
    import cv2
    from safetensors import SafetensorError

    for error in (av.error.InvalidDataError(1, "bad"), cv2.error("bad\npicture"), SafetensorError("bad")):
        assert type(raised(error)) is MediaError


def test_anything_else_is_a_bug_that_keeps_its_cause():
    found = raised(AttributeError("no such thing"))
    assert type(found) is InternalError
    assert found.hint == errors.REPORT
    assert isinstance(found.__cause__, AttributeError)


def test_our_own_errors_stay_as_they_are_and_faces_are_named():
    own = DataError("an index is damaged", "make it again")
    assert raised(own) is own
    assert raised(FaceError("no face found")).message == "a clip.mp4: no face found"


def test_ctrl_c_is_no_error_of_an_input():
    with pytest.raises(KeyboardInterrupt), guard("a clip.mp4"):
        raise KeyboardInterrupt


@pytest.mark.skipif(os.name == "nt", reason="bytes in names")
def test_any_text_can_be_printed_in_any_encoding(tmp_path):
    import subprocess
    import sys

    code = (
        "from lipsound2.runtime.terminal import prepare_streams, warn; prepare_streams();"
        "print('x\\udce9 \\u65e5 [/b].mp4'); warn('x\\udce9 \\u65e5 [/b].mp4')"
    )
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout.strip() == rb"x" + b"\xe9" + rb" \u65e5 [/b].mp4"
    assert done.stderr.strip() == rb"warning: x" + b"\xe9" + rb" \u65e5 [/b].mp4"


def test_long_reasons_are_cut():
    assert len(raised(OSError("what " * 1000)).message) < 300


def test_any_error_from_within_a_decoder_is_the_files_fault():
    import av

    with pytest.raises(MediaError, match="cannot be read"), guard("a clip.mp4"):
        av.AudioFrame.from_ndarray(np.zeros((1, 3, 4), np.float32), format="nonsense")
    with pytest.raises(InternalError), guard("a clip.mp4"):
        raise ValueError("nonsense")


def test_every_message_is_one_line():
    error = DataError("not an archive:\n  - method gz\n\n- method xz", "look\nagain")
    assert (error.message, error.hint) == ("not an archive: - method gz - method xz", "look again")
    assert "two  spaces.mp4" in DataError("two  spaces.mp4 is bad").message


def test_memory_that_torch_does_not_get_is_no_bug():
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 40000000000000 bytes."
    assert "needs more memory" in raised(RuntimeError(words)).message
