import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from lipsound2.errors import CheckpointError
from lipsound2.faces import FaceError, YuNetDetector
from lipsound2.importers.nemo import import_nemo
from lipsound2.importers.waveglow import import_waveglow
from lipsound2.runtime.foreign import describe, look
from lipsound2.runtime.weights import load_weights


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


WEIGHTS = save({"a": torch.zeros(100)})
FILES = {
    "is empty": b"",
    "is a web page (HTML)": b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>",
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "is a git-annex pointer": b"/annex/objects/SHA256E-s1--0\n",
    "is a zip archive": zipped(),
    "is a tar archive": tarred(),
    "is a pickle": pickle.dumps({"a": 1}),
    "is compressed by gzip": b"\x1f\x8b\x08\0\0",
    "is an array of NumPy": array(),
    "is an HDF5 file": b"\x89HDF\r\n\x1a\n",
    "is a video file (MP4)": b"\0\0\0\x20ftypisom",
    "is an XML document": b'<?xml version="1.0"?><Error/>',
    "is a text (JSON)": b'{"error": "not found"}',
    "is a text": b"404: Not Found",
    "holds zeros only": bytes(5000),
    "is a safetensors file": WEIGHTS,
    "is a safetensors file that is cut off": WEIGHTS[:-1],
    "is a safetensors file that is cut off after": WEIGHTS[:20],
    "is of an unknown kind": b"\xde\xad\xbe\xef\xfe" * 9,
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_is_called_what_it_is(tmp_path, what):
    path = tmp_path / "model.safetensors"
    path.write_bytes(FILES[what])
    assert describe(path).startswith(what)
    assert look(path).hint
    if what != "is a safetensors file":
        with pytest.raises(CheckpointError) as caught:
            load_weights(path)
        assert str(path) + " " + what in caught.value.message


def test_folders_and_missing_files(tmp_path):
    assert describe(tmp_path) == "is a folder"
    assert "cannot be read" in describe(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_weights(tmp_path)


@pytest.mark.parametrize("what", ["is empty", "is a web page (HTML)", "is a Git LFS pointer", "is a text"])
def test_whoever_takes_files_of_others_says_what_they_are(tmp_path, what):
    path = tmp_path / "file"
    path.write_bytes(FILES[what])
    for read in (import_nemo, import_waveglow):
        with pytest.raises(CheckpointError) as caught:
            read(path, tmp_path / "out")
        assert what in caught.value.message
        assert caught.value.hint
    with pytest.raises(FaceError) as refused:
        YuNetDetector(path)
    assert what in refused.value.message
