"""A process that runs cases one by one -> their outcomes; one that hangs or crashes costs one process.

Outcomes are `ok` and `refused`, with one line that says why, or failures: `traceback` is a bug, `vague` an error
that only the last resort would explain, `memory`, `hang` and `crash` what they say, and `escape` whatever an input did
outside of its folder.
"""

import contextlib
import faulthandler
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

GOOD = ("ok", "refused")
KINDS = (*GOOD, "traceback", "vague", "memory", "hang", "crash", "escape")
RUNS = frozenset({"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class"})
WRITES = frozenset({"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.symlink", "os.link"})
"""Audit events of Python that no input may cause at all, or may cause in the case's own folder only."""


@dataclass(frozen=True)
class Limits:
    """What one case may take."""

    seconds: float = 30.0
    megabytes: float = 1000.0


@dataclass(frozen=True)
class Plan:
    """Where the cases come from and where they are run."""

    seeds: Path
    work: Path
    seed: int
    limits: Limits = Limits()

    def folder(self, group: str, index: int) -> Path:
        """Name the folder of a case."""
        return self.work / f"{group}-{self.seed}-{index}"


class Outcome(NamedTuple):
    """What came of a case: a word, what was changed, why, and what it took."""

    group: str
    index: int
    kind: str
    target: str
    changed: str
    detail: str
    seconds: float
    megabytes: float


class Worker:
    """Runs cases in a process of its own, and starts another one where that is lost.

    Args:
        plan: Of the cases.
        serve: What the process does.
    """

    def __init__(self, plan: Plan, serve: Callable[[Connection, Plan], None]) -> None:
        self.plan = plan
        self.serve = serve
        self._process: Any = None

    def run(self, group: str, index: int) -> Outcome:
        """Run one case within its limits; the folder of one that failed stays."""
        if self._process is None:
            self._start()
        folder = self.plan.folder(group, index)
        shutil.rmtree(folder, ignore_errors=True)
        self._pipe.send((group, index))
        if not self._pipe.poll(self.plan.limits.seconds):
            outcome = self._lost(group, index, "hang", f"took more than {self.plan.limits.seconds:g} s")
        else:
            try:
                outcome = self._pipe.recv()
            except EOFError:
                self._process.join(5)
                outcome = self._lost(group, index, "crash", f"exit status {self._process.exitcode}")
        if outcome.kind in GOOD:
            shutil.rmtree(folder)
        return outcome

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=self.serve, args=(other, self.plan), daemon=True)
        self._process.start()
        other.close()
        if not self._pipe.poll(300) or self._pipe.recv() != "ready":
            raise RuntimeError(f"the worker does not start; see {self.plan.work}")

    def _lost(self, group: str, index: int, kind: str, detail: str) -> Outcome:
        log = self.plan.work / f"worker-{self._process.pid}.log"
        if kind == "hang":
            # Registered with faulthandler: the worker writes where it is.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(0.5)
        self.stop()
        lines = log.read_text(errors="replace").splitlines()[-14:] if log.exists() else []
        return Outcome(group, index, kind, "", "", "\n".join([detail, *lines]), self.plan.limits.seconds, 0.0)


def serve(pipe: Connection, plan: Plan) -> None:
    """Run the cases whose numbers come in, until the pipe is closed."""
    with (plan.work / f"worker-{os.getpid()}.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        faulthandler.enable(log)
        faulthandler.register(signal.SIGUSR1, log)
        os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "LIPSOUND2_DEBUG": ""}
        import torch
        from fuzz.targets import warm_up

        torch.set_num_threads(1)
        warm_up(plan.seeds, plan.work)
        limit = _status("VmSize") + int(4 * plan.limits.megabytes)
        resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))
        watch = Watch(plan)
        sys.addaudithook(watch)
        pipe.send("ready")
        while True:
            try:
                group, index = pipe.recv()
            except EOFError:
                return
            pipe.send(run_case(plan, group, index, watch))


def run_case(plan: Plan, group: str, index: int, watch: "Watch") -> Outcome:
    """Make a case and run it in this process."""
    from fuzz.targets import TARGETS, make_case

    from lipsound2.errors import InternalError, LipSoundError, explain

    folder = plan.folder(group, index)
    (folder / "out").mkdir(parents=True)
    tempfile.tempdir = str(folder)
    case = make_case(plan.seeds, folder, group, plan.seed, index)
    kind, detail = "ok", ""
    start, before = time.monotonic(), _reset_peak()
    try:
        with watch.over(folder):
            TARGETS[case.target].run(case.path, folder / "out", plan.seeds)
    except InternalError as error:
        kind, detail = "traceback", "".join(traceback.format_exception(error.__cause__ or error))
    except LipSoundError as error:
        kind, detail = "refused", error.message
    except Exception as error:  # noqa: BLE001  (what a fuzzer is for)
        kind = "traceback" if isinstance(explain(error, case.path), InternalError) else "vague"
        detail = traceback.format_exc()
    seconds, megabytes = time.monotonic() - start, _status("VmHWM") - before
    if watch.found:
        kind, detail = "escape", "\n".join(watch.found)
    elif megabytes > plan.limits.megabytes:
        kind, detail = "memory", f"{megabytes:.0f} MB more than before\n{detail}"
    return Outcome(group, index, kind, case.target, case.changed, detail, seconds, megabytes)


class Watch:
    """Notes what a case does outside of its folder."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.active = False
        self.found: list[str] = []
        here = Path(__file__).resolve().parents[2]
        self.readable = ("/proc/", "/sys/", "/dev/", "/usr/", "/etc/", sys.prefix, sys.base_prefix, str(here))
        self.readable += tuple(str(Path(entry).resolve()) for entry in sys.path if entry)
        self.readable += (str(plan.seeds / "prepared"), str(plan.seeds / "recipe"))

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Note what happens in the block."""
        self.folder, self.found, self.active = str(folder), [], True
        try:
            yield
        finally:
            self.active = False

    def __call__(self, event: str, args: tuple) -> None:
        """Take note of an audit event."""
        if not self.active:
            return
        self.active = False
        if event in RUNS:
            self.found.append(f"{event} {args[:2]}")
        elif event in WRITES and isinstance(args[0], str | bytes | os.PathLike) and args[-1] in (-1, None):
            self._check(event, args[0], ())
        elif event == "open" and isinstance(args[0], str | bytes):
            writes = bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            self._check(f"open {'to write' if writes else 'to read'}", args[0], () if writes else self.readable)
        self.active = True

    def _check(self, event: str, path: Any, also: tuple[str, ...]) -> None:
        full = os.path.realpath(os.fsdecode(path))
        if not full.startswith((self.folder, *also)) and full != "/dev/null":
            self.found.append(f"{event} {full}")


def _status(name: str) -> int:
    """Read a figure of this process, in MB."""
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith(f"{name}:"))


def _reset_peak() -> int:
    """Let the peak of memory begin anew; returns the memory in use, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")
