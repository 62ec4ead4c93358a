import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from test_media import bad_files
from test_packs import pack, run
from test_training import recipe

from lipsound2.config import to_json
from lipsound2.corpora.folder import find_videos

__all__ = ["pack", "run"]


def lipsound2(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::DeprecationWarning:lipsound2", "-m", "lipsound2", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=300)


def only_error(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Check that a command failed as it should, and give the lines it printed."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2
    return lines


def test_speak_writes_next_to_each_other_and_keeps_folders(pack, clips, tmp_path):
    folder = tmp_path / "my videos"
    (folder / "deep er").mkdir(parents=True)
    video = find_videos(clips)[0]
    shutil.copy(video, folder / "a clip.mp4")
    shutil.copy(video, folder / "deep er" / "b.mp4")
    done = lipsound2("speak", folder, folder / "a clip.mp4", "-o", tmp_path / "out put", "--pack", pack)
    assert done.returncode == 0, done.stderr
    written = [Path(line).relative_to(tmp_path / "out put").as_posix() for line in done.stdout.splitlines()]
    stems = ["a clip", "deep er/b", "a clip-2"]
    assert written == [f"{stem}.{suffix}" for stem in stems for suffix in ("wav", "mp4", "png")]
    assert all((tmp_path / "out put" / name).stat().st_size > 1000 for name in written)


def test_one_bad_file_does_not_stop_the_rest(pack, clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(find_videos(clips)[0], folder / "good.mp4")
    (folder / "bad.mp4").write_text("no video " * 100)
    done = lipsound2("speak", folder, "-o", tmp_path / "out", "--pack", pack, "-f", "wav")
    assert done.returncode == 1
    assert [Path(line).name for line in done.stdout.splitlines()] == ["good.wav"]
    assert "bad.mp4 is not a media file" in done.stderr
    assert "1 of 2 videos failed" in done.stderr


def test_a_damaged_file_is_spoken_as_far_as_it_goes(pack, clips, tmp_path):
    cut = tmp_path / "cut.mkv"
    with av.open(str(find_videos(clips)[0])) as source, av.open(str(cut), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    done = lipsound2("speak", cut, "-o", tmp_path / "out", "--pack", pack, "-f", "wav")
    assert done.returncode == 0, done.stderr
    assert "the file may be damaged" in " ".join(done.stderr.split())


def test_bad_input_is_one_line_and_a_hint(pack, tmp_path):
    for message, path in bad_files(tmp_path).items():
        if path.is_dir():
            continue
        lines = only_error(lipsound2("speak", path, "-o", tmp_path / "out", "--pack", pack))
        assert message.strip() in lines[0]
    empty = tmp_path / "no videos"
    empty.mkdir()
    assert "no video in the folder" in only_error(lipsound2("speak", empty, "--pack", pack))[0]
    whole = tmp_path / "whole.mp4"
    assert "no face" in only_error(lipsound2("speak", whole, "-o", tmp_path / "out", "--pack", pack))[0]


def test_bad_options_are_one_line_and_a_hint(pack, clips, tmp_path):
    video = find_videos(clips)[0]
    out = ("-o", tmp_path / "out")
    assert "no pack and no folder" in only_error(lipsound2("speak", video, *out, "--pack", "nobody"))[0]
    assert "unknown format" in only_error(lipsound2("speak", video, *out, "--pack", pack, "-f", "mp3"))[0]
    assert "there is no face 7" in only_error(lipsound2("speak", video, *out, "--pack", pack, "--face", "7"))[0]
    assert "unknown vocoder" in only_error(lipsound2("speak", video, *out, "--pack", pack, "--vocoder", "x"))[0]
    weights = pack / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "differs from its checksum" in only_error(lipsound2("speak", video, *out, "--pack", pack))[0]


def test_nothing_is_overwritten_unasked(pack, clips, tmp_path):
    command = ("speak", find_videos(clips)[0], "-o", tmp_path, "--pack", pack, "-f", "wav")
    assert lipsound2(*command).returncode == 0
    assert "exists" in only_error(lipsound2(*command))[0]
    assert lipsound2(*command, "--force").returncode == 0


def test_a_folder_that_cannot_be_written(pack, clips, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    lines = only_error(lipsound2("speak", find_videos(clips)[0], "-o", blocked / "out", "--pack", pack))
    assert "cannot write" in lines[0]


def test_faces_are_listed(pack, clips, tmp_path):
    done = lipsound2("speak", find_videos(clips)[0], "--list-faces", "--pack", pack)
    assert done.returncode == 0
    assert "face 1: 0.00-" in done.stdout


def test_from_a_corpus_to_a_voice(clips, tmp_path):
    """Prepare, pretrain, finetune, make a pack and speak with it: the commands fit together."""
    settings = tmp_path / "recipe.json"
    settings.write_text(to_json(recipe(epochs=1)))
    prepared, base, tuned = tmp_path / "prepared", tmp_path / "base", tmp_path / "tuned"
    done = lipsound2("prepare", "folder", clips, "-o", prepared, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "0 failures" in done.stdout
    for _ in range(2):
        done = lipsound2("pretrain", prepared, "-o", base, "--recipe", settings, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        assert "best free-running error" in done.stdout
    assert "resumed" in done.stderr
    done = lipsound2(
        "finetune", prepared, "--from", base, "-o", tuned, "--epochs", 1, "--clips", 2, "--batch-size", 2, "--lr", 1e-4
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tuned / "recipe.json").read_text())["train"]["learning_rate"] == 1e-4
    card = tmp_path / "card.md"
    card.write_text("# Licence\n")
    pack = tmp_path / "packs" / "ours"
    done = lipsound2("pack", tuned, "-o", pack, "--licence", "CC0-1.0", "--trained-on", "simulated", "--card", card)
    assert done.returncode == 0, done.stderr
    listed = lipsound2("packs", LIPSOUND2_PACKS=str(pack.parent)).stdout
    assert "ours" in listed
    assert "CC0-1.0" in listed
    done = lipsound2("speak", find_videos(clips)[0], "-o", tmp_path / "out", "--pack", pack)
    assert done.returncode == 0, done.stderr
    examined = lipsound2("doctor", LIPSOUND2_PACKS=str(pack.parent))
    assert examined.returncode == 0, examined.stdout
    assert "pack ours" in examined.stdout


def test_too_many_failures_of_prepare_exit_with_1(clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(find_videos(clips)[0], folder / "good.mp4")
    (folder / "bad.mp4").write_text("no video " * 100)
    done = lipsound2("prepare", "folder", folder, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "1 samples, 1 failures" in done.stdout
    assert "failures.jsonl" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_is_one_line(clips, tmp_path):
    command = [sys.executable, "-m", "lipsound2", "prepare", "folder", str(clips), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "out" / "prepared.json").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_help_is_quick_and_names_every_command():
    done = lipsound2("--help")
    for command in ("speak", "prepare", "pretrain", "finetune", "packs", "pack", "doctor"):
        assert command in done.stdout
    code = "import sys, lipsound2.cli; assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
