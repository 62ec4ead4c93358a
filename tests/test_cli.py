import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import av
import pytest
from test_media import bad_files
from test_packs import pack, run
from test_training import recipe

from lipsound2.cli import main
from lipsound2.config import to_json
from lipsound2.corpora.folder import find_videos

__all__ = ["pack", "run"]


class Done(NamedTuple):
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def lipsound2(capsys):
    """Run a command in this process, as its `main` does."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Done(ended.value.code, *capsys.readouterr())

    return run


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::DeprecationWarning:lipsound2", "-m", "lipsound2", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def only_error(done: Done) -> list[str]:
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
    done = process("speak", folder, folder / "a clip.mp4", "-o", tmp_path / "out put", "--pack", pack)
    assert done.returncode == 0, done.stderr
    written = [Path(line).relative_to(tmp_path / "out put").as_posix() for line in done.stdout.splitlines()]
    stems = ["a clip", "deep er/b"]
    assert written == [f"{stem}.{suffix}" for stem in stems for suffix in ("wav", "mp4", "png")]
    assert all((tmp_path / "out put" / name).stat().st_size > 1000 for name in written)


def test_one_bad_file_does_not_stop_the_rest(lipsound2, pack, clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(find_videos(clips)[0], folder / "good.mp4")
    (folder / "bad.mp4").write_text("no video " * 100)
    done = lipsound2("speak", folder, "-o", tmp_path / "out", "--pack", pack, "-f", "wav")
    assert done.returncode == 1
    assert [Path(line).name for line in done.stdout.splitlines()] == ["good.wav"]
    assert "bad.mp4 is not a media file" in done.stderr
    assert "1 of 2 done, 1 failed" in done.stderr


def test_a_damaged_file_is_spoken_as_far_as_it_goes(lipsound2, pack, clips, tmp_path):
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


def test_bad_input_is_one_line_and_a_hint(lipsound2, pack, tmp_path):
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


def test_bad_options_are_one_line_and_a_hint(lipsound2, pack, clips, tmp_path):
    video = find_videos(clips)[0]
    out = ("-o", tmp_path / "out")
    assert "no pack and no folder" in only_error(lipsound2("speak", video, *out, "--pack", "nobody"))[0]
    assert "unknown format" in only_error(lipsound2("speak", video, *out, "--pack", pack, "-f", "mp3"))[0]
    assert "there is no face 7" in only_error(lipsound2("speak", video, *out, "--pack", pack, "--face", "7"))[0]
    assert "unknown vocoder" in only_error(lipsound2("speak", video, *out, "--pack", pack, "--vocoder", "x"))[0]
    weights = pack / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "differs from its checksum" in only_error(lipsound2("speak", video, *out, "--pack", pack))[0]


def test_the_same_command_goes_on_and_overwrites_nothing(lipsound2, pack, clips, tmp_path):
    video = find_videos(clips)[0]
    command = ("speak", video, "-o", tmp_path / "x.wav", "--pack", pack)
    assert lipsound2(*command).stdout == f"{tmp_path / 'x.wav'}\n"
    again = lipsound2(*command, "--json")
    assert again.returncode == 0
    told = json.loads(again.stdout)
    assert told == {"source": str(video), "status": "skipped", "outputs": [str(tmp_path / "x.wav")]}
    assert "made with vocoder" in only_error(lipsound2(*command, "--vocoder", "waveglow"))[0]
    done = lipsound2(*command, "--force", "--json", "--verbose")
    told = json.loads(done.stdout)
    assert (told["status"], told["source"], told["faces"]) == ("done", str(video), 1)
    assert "device cpu" in done.stderr
    assert "synthesising audio" in done.stderr


def test_a_folder_that_cannot_be_written(lipsound2, pack, clips, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    lines = only_error(lipsound2("speak", find_videos(clips)[0], "-o", blocked / "out", "--pack", pack))
    assert "cannot write" in lines[0]


def test_faces_are_listed(lipsound2, pack, clips, tmp_path):
    done = lipsound2("speak", find_videos(clips)[0], "--list-faces", "--pack", pack)
    assert done.returncode == 0
    assert "face 1: 0.00-" in done.stdout


def test_from_a_corpus_to_a_voice(lipsound2, clips, tmp_path, monkeypatch):
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
    monkeypatch.setenv("LIPSOUND2_PACKS", str(pack.parent))
    listed = lipsound2("packs").stdout
    assert "ours" in listed
    assert "CC0-1.0" in listed
    done = lipsound2("speak", find_videos(clips)[0], "-o", tmp_path / "out", "--pack", pack)
    assert done.returncode == 0, done.stderr
    examined = lipsound2("doctor")
    assert examined.returncode == 0, examined.stdout
    assert "pack ours" in examined.stdout


def test_too_many_failures_of_prepare_exit_with_1(lipsound2, clips, tmp_path):
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


WRONG = {
    "speek x": "no such command 'speek' | did you mean speak",
    "vocoder trian": "no such command 'trian' | did you mean train?",
    "speak": "missing argument",
    "speak a.mp4 --vocodr x": "no such option: --vocodr | did you mean --vocoder",
    "speak -x.mp4": "no such option | goes behind two of them: lipsound2 speak -- -x.mp4",
    "speak a.mp4 --device foo": "no device 'foo' here | there is: auto, cpu",
    "speak a.mp4 --device cuda:99": "no device 'cuda:99' here",
    "pretrain p --device foo": "no device 'foo' here",
    "speak a.mp4 --beam -1": "--beam",
    "speak a.mp4 --beam 3": "--beam does nothing without --text",
    "speak a.mp4 --face 0": "unknown face '0'",
    "speak a.mp4 --detector-file x": "--detector-file does nothing without --detector yunet",
    "speak a.mp4 -o x.mp3": "nothing is written as mp3",
    "speak a.mp4 b.mp4 -o x.wav": "is one file",
    "read a.mp4 --sound --vocoder griffin-lim": "--vocoder does nothing with --sound",
    "read a.mp4 --threads 0": "--threads",
    "prepare folder . --shard-size 0": "--shard-size",
    "prepare folder . --workers -1": "--workers",
    "prepare folder . --max-mismatch nan": "--max-mismatch",
    "prepare folder . --max-failures 1.5": "--max-failures",
    "prepare folder . --max-mismatch inf": "--max-mismatch",
    "simulate --clips 0": "--clips",
    "simulate --difficulty -1": "--difficulty",
    "simulate --val 0.7 --test 0.6": "val and test",
    "evaluate --data . --clips -1": "--clips",
    "evaluate --data . --device foo": "no device 'foo' here",
    "pretrain p --epochs 0": "--epochs",
    "pretrain p --batch-size -2": "--batch-size",
    "pretrain p --lr -1": "--lr",
    "pretrain p --lr 0": "--lr",
    "pretrain p --lr inf": "--lr",
    "finetune p --from q --devices 0": "--devices",
    "finetune p --from q --clips 0": "--clips",
    "vocoder train p --seed -1": "--seed",
    "pretrain p --recipe recipe.json": "recipe.json: epochs must be at least 1, got 0",
    "pretrain p --set epochs=3": "there is no setting epochs | did you mean train.epochs?",
    "vocoder train p --set train.epoch=3": "there is no setting train.epoch | did you mean train.epochs?",
    "finetune p --from q --set train.epochs=x": "train.epochs takes a whole number, got 'x'",
    "recognizer train p --set train.epochs": "KEY=VALUE was expected",
    "pretrain p --set train.epochs=3 --epochs 4": "set the same",
    "recipe defaults nothing": "there is no kind of recipe 'nothing' | one of pretrain, finetune",
    "recipe show recipe.json": "recipe.json: epochs must be at least 1, got 0",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_one_line_and_a_hint(lipsound2, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-x.mp4").touch()
    (tmp_path / "recipe.json").write_text(to_json(recipe(epochs=1)).replace('"epochs": 1', '"epochs": 0'))
    said = " ".join(only_error(lipsound2(*line.split())))
    for part in WRONG[line].split(" | "):
        assert part in said
    assert not (tmp_path / "out").exists()


def test_the_common_options_are_understood_anywhere(lipsound2, tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSOUND2_DEBUG", "")
    missing = tmp_path / "none.mp4"
    for words in (["--json", "-q", "speak", missing], ["speak", missing, "--quiet", "--json"]):
        done = lipsound2(*words, "-o", tmp_path / "out")
        assert json.loads(done.stdout)["error"] == f"no such file: {missing}"
    assert lipsound2("speak", "-o", tmp_path / "out", "--", "--json").stderr.startswith("error: no such file: --json")
    assert lipsound2("--version").stdout.startswith("lipsound2 ")
    assert "Traceback" in lipsound2("speak", missing, "-o", tmp_path / "out", "--debug").stderr


def test_recipes_are_shown(lipsound2, tmp_path):
    done = lipsound2("recipe", "defaults", "vocoder", "--preset", "nvidia")
    assert json.loads(done.stdout)["model"]["channels"] == 256
    path = tmp_path / "recipe.json"
    path.write_text('{"train": {"epochs": 7}, "window": [50, 80, 60]}')
    done = lipsound2("recipe", "show", path)
    told = json.loads(done.stdout)
    assert (told["train"]["epochs"], told["train"]["batch_size"], told["window"]) == (7, 16, [50, 80, 60])
    assert "train.epochs = 7, not 100" in done.stderr
    assert "2 settings differ from the defaults" in done.stderr
    path.write_text(done.stdout)
    assert lipsound2("recipe", "show", tmp_path).stdout == done.stdout
    assert json.loads(lipsound2("recipe", "show", path, "--for", "finetune", "--json").stdout) == told


def test_help_is_quick_and_names_every_command(lipsound2):
    done = lipsound2("--help")
    for command in ("speak", "prepare", "pretrain", "finetune", "packs", "pack", "doctor"):
        assert command in done.stdout
    code = "import sys, lipsound2.cli; assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_empty_argument_is_refused(lipsound2):
    for arguments in (("speak", ""), ("speak", "a.mp4", "-o", ""), ("read", "a.mp4", "--pack", "")):
        assert "one of the arguments is empty" in only_error(lipsound2(*arguments))[0]
    assert "999999 threads are more" in only_error(lipsound2("speak", "a.mp4", "--threads", 999_999))[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full device")
def test_a_full_standard_output_is_no_fault_of_a_video(pack, clips, tmp_path):
    command = [sys.executable, "-m", "lipsound2", "speak", str(find_videos(clips)[0]), "-o", str(tmp_path), "-f", "wav"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--pack", str(pack)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300
        )
    assert "cannot write to standard output: No space left on device" in done.stderr
    assert done.returncode == 0
    assert len(list(tmp_path.glob("*.wav"))) == 1


def test_an_input_that_may_not_be_read_costs_only_itself(lipsound2, pack, tmp_path, monkeypatch):
    """The command line does not ask whether files can be read, which would end the whole batch."""
    (tmp_path / "a.mp4").write_text("no video")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    done = lipsound2("speak", tmp_path / "a.mp4", "-o", tmp_path / "out", "--pack", pack)
    assert "a.mp4 is not a media file" in only_error(done)[0]
