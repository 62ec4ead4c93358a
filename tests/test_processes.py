"""Several processes train as one, and end as one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from socket import socket

import pytest
import torch
from safetensors.torch import load_file
from test_training import pretrain, recipe, still

from lipsound2.errors import DataError
from lipsound2.training.checkpoint import load_state
from lipsound2.training.task import share_out


def test_two_processes_train_together(prepared, tmp_path):
    """Under torchrun, two processes share data and folder, save when one says so, and refuse with one line."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from dataclasses import replace\n"
        "from test_training import recipe\n"
        "from lipsound2.errors import LipSoundError\n"
        "from lipsound2.training.run import make_fabric, run\n"
        "if __name__ == '__main__':\n"
        "    fabric = make_fabric('cpu', 1, '32-true')\n"
        "    wanted = recipe(batch_size=int(sys.argv[3]), checkpoint_minutes=float(sys.argv[4]))\n"
        "    try:\n"
        "        run(wanted, Path(sys.argv[1]), Path(sys.argv[2]), None, fabric)\n"
        "    except LipSoundError as error:\n"
        "        print('refused:', fabric.global_rank, error)\n"
        "    assert fabric.world_size == 2\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]

    def call(batch_size: int, minutes: float) -> str:
        arguments = [str(prepared), str(tmp_path / "run"), str(batch_size), str(minutes)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert call(1, 1e-4) == ""
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    (line,) = call(2, 10.0).splitlines()
    assert line.startswith("refused: 0 ")
    assert "train.batch_size 1, not 2" in line


def two_processes(prepared: Path, folder: Path, strategy: str, epochs: int = 2) -> None:
    """Train in two processes of a CPU, without dropout and augmentation."""
    script = folder.parent / "train.py"
    script.write_text(
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_training import recipe, still\n"
        "from lipsound2.training.run import make_fabric, run\n"
        "if __name__ == '__main__':\n"
        "    wanted = replace(still(recipe(batch_size=1, log_every=1)), graphs=False)\n"
        "    train = replace(wanted.train, strategy=sys.argv[3], epochs=int(sys.argv[4]))\n"
        "    fabric = make_fabric('cpu', 1, '32-true', train.strategy)\n"
        "    run(replace(wanted, train=train), Path(sys.argv[1]), Path(sys.argv[2]), None, fabric)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    words = [str(prepared), str(folder), strategy, str(epochs)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def sharded(prepared, tmp_path_factory) -> Path:
    """A run of two processes that hold a shard each."""
    folder = tmp_path_factory.mktemp("sharded") / "run"
    two_processes(prepared, folder, "fsdp")
    return folder


@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_two_processes_learn_what_one_does_with_twice_the_batch(prepared, tmp_path, strategy, sharded):
    if strategy == "fsdp":
        shutil.copytree(sharded, tmp_path / "two")
    else:
        two_processes(prepared, tmp_path / "two", strategy)
    pretrain(prepared, tmp_path / "one", still(recipe(epochs=2, batch_size=2, log_every=1)))
    one, two = (
        [json.loads(line)["error"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert two == pytest.approx(one, rel=1e-3)
    first, second = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ("one", "two"))
    for name, weights in first.items():
        torch.testing.assert_close(second[name], weights, atol=1e-4, rtol=1e-2)


def test_checkpoints_of_shards_are_whole_and_go_on_with_any_strategy(prepared, tmp_path, sharded):
    pretrain(prepared, tmp_path / "one", still(recipe(epochs=2, batch_size=2)))
    for strategy in ("fsdp", "ddp"):
        shutil.copytree(sharded, tmp_path / strategy)
        two_processes(prepared, tmp_path / strategy, strategy, epochs=3)
    fsdp, ddp, one = (load_state(tmp_path / name / "checkpoints") for name in ("fsdp", "ddp", "one"))
    assert fsdp is not None
    assert ddp is not None
    assert one is not None
    assert fsdp.step == ddp.step == 1.5 * one.step
    assert {n: t.shape for n, t in fsdp.weights.items()} == {n: t.shape for n, t in one.weights.items()}
    assert {n: {k: t.shape for k, t in s.items()} for n, s in fsdp.slots.items()} == {
        n: {k: t.shape for k, t in s.items()} for n, s in one.slots.items()
    }
    for name, weights in ddp.weights.items():
        torch.testing.assert_close(fsdp.weights[name], weights, atol=1e-4, rtol=1e-2)
    for name, mean in ddp.average.items():
        torch.testing.assert_close(fsdp.average[name], mean, atol=1e-4, rtol=1e-2)


def test_a_process_that_is_killed_ends_the_others_with_one_line(prepared, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_training import recipe\n"
        "from lipsound2.errors import LipSoundError\n"
        "from lipsound2.training.tasks.lip2mel import MelTask\n"
        "from lipsound2.training.run import make_fabric, run\n"
        "inner, calls = MelTask.loss, []\n"
        "def loss(self, *args):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3 and os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\n"
        "    return inner(self, *args)\n"
        "MelTask.loss = loss\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        run(recipe(epochs=9, batch_size=1), Path(sys.argv[1]), Path(sys.argv[2]), None,"
        " make_fabric('cpu', 1, '32-true'))\n"
        "    except LipSoundError as error:\n"
        "        print('ended:', error, flush=True)\n"
    )
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port)}
    command = [sys.executable, str(script), str(prepared), str(tmp_path / "run")]
    processes = [
        subprocess.Popen(
            command,
            env=common | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE if rank == "0" else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in "01"
    ]
    processes[1].wait(300)
    said, _ = processes[0].communicate(timeout=60)
    assert said.startswith("ended: another process of the run was lost at step 2")
    state = load_state(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state.step == 2


def test_work_that_is_shared_out_comes_back_in_order_and_so_does_an_error():
    assert share_out(3, lambda number: {2 * number: "a", 2 * number + 1: "b"}) == ["a", "b"] * 3

    def broken(number: int) -> dict[int, str]:
        if number == 1:
            raise DataError("clip 1 is damaged")
        return {number: "a"}

    with pytest.raises(DataError, match="clip 1"):
        share_out(3, broken)
