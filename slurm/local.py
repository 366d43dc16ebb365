"""Run the cells of a sweep on this machine, some at a time. Killed and started again, it goes on where it was.

A cell's process inherits a lock on the cell's folder. If this launcher is killed outright, the process goes on, and
the next launcher waits for it instead of training into the same folder.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import IO

from tqdm import tqdm

from slurm.manifest import is_done, set_status
from slurm.progress import progress

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 15.0
_TAIL_LINES = 20


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        name: The cell.
        done: Whether it is complete.
        message: One line; for a cell that failed, with the end of its log.
    """

    name: str
    done: bool
    message: str


def launch_command(processes: int) -> list[str]:
    """The command that trains a recipe, but for `recipe=<file>`.

    Args:
        processes: How many processes train together.
    """
    spec = find_spec("train")
    assert spec is not None and spec.origin is not None
    several = ["--multi_gpu"] if processes > 1 else []
    return [
        # Quiet: its own traceback would stand after the script's message, at the end of the log.
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet", *several),
        *("--num_processes", str(processes), "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        str(Path(spec.origin).parent / "sft.py"),
    ]


def run_cells(
    sweep_dir: Path,
    commands: dict[str, Sequence[str]],
    *,
    workers: int,
    tell: Callable[[str], None],
) -> list[Outcome]:
    """Run every cell that is not done.

    Args:
        sweep_dir: Folder of the sweep, laid out.
        commands: Cell name -> the command that makes it, to which `recipe=<file>` is added.
        workers: How many cells run at once; they share the cores.
        tell: Called with a line when a cell ends.

    Returns:
        One outcome a cell, in the order of `commands`.

    Raises:
        KeyboardInterrupt: Interrupted or terminated; the cells' processes have been stopped.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **os.environ}
    stop = Event()
    with ThreadPoolExecutor(workers) as pool, _terminate_as_interrupt():
        futures = {
            name: pool.submit(_run_cell, sweep_dir, name, command, environment, stop)
            for name, command in commands.items()
        }
        try:
            _watch(sweep_dir, futures, tell)
        except BaseException:
            stop.set()
            raise
    return [future.result() for future in futures.values()]


def _watch(sweep_dir: Path, futures: dict[str, "Future[Outcome]"], tell: Callable[[str], None]) -> None:
    """Show how far the cells are until all have ended."""
    bar_format = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
    told: set[str] = set()
    with tqdm(total=len(futures), desc=sweep_dir.name, bar_format=bar_format, disable=None) as bar:
        while len(told) < len(futures):
            wait([future for name, future in futures.items() if name not in told], timeout=1.0)
            for name, future in futures.items():
                if future.done() and name not in told:
                    told.add(name)
                    tell(future.result().message)
            running = {name: progress(sweep_dir / name) for name, f in futures.items() if f.running()}
            bar.n = len(told) + sum(state.fraction for state in running.values())
            bar.set_postfix_str("; ".join(f"{name} {state.text}" for name, state in running.items()))


def _run_cell(
    sweep_dir: Path, name: str, command: Sequence[str], environment: dict[str, str], stop: Event
) -> Outcome:
    folder = sweep_dir / name
    if stop.is_set():
        return Outcome(name, False, f"{name}: not started")
    if is_done(folder):
        set_status(sweep_dir, name, "done")
        return Outcome(name, True, f"{name}: done before")
    with (folder / "launcher.lock").open("w") as lock, (folder / "stdout.log").open("ab") as log:
        if not _locked(lock, stop):
            return Outcome(name, False, f"{name}: not started")
        if is_done(folder):
            set_status(sweep_dir, name, "done")
            return Outcome(name, True, f"{name}: done by a process of an earlier launch")
        set_status(sweep_dir, name, "running")
        began = time.monotonic()
        status = _run([*command, f"recipe={folder / 'recipe.yaml'}"], environment, log, lock, stop)
    seconds = f"{time.monotonic() - began:.0f} s"
    if stop.is_set():
        set_status(sweep_dir, name, "pending")
        return Outcome(name, False, f"{name}: stopped after {seconds}")
    if status == 0 and is_done(folder):
        set_status(sweep_dir, name, "done")
        return Outcome(name, True, f"{name}: done in {seconds}")
    set_status(sweep_dir, name, "failed")
    why = f"exit status {status}" if status else "it ended without DONE.json"
    return Outcome(name, False, f"{name}: FAILED after {seconds}, {why}. End of {log.name}:\n{_tail(Path(log.name))}")


def _run(command: Sequence[str], environment: dict[str, str], log: IO[bytes], lock: IO[str], stop: Event) -> int:
    """The exit status of `command`, whose whole process group is ended if it fails or if `stop` is set."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        pass_fds=(lock.fileno(),),
    )
    deadline = float("inf")
    while not (ended := _exit_status(process.pid)):
        if stop.wait(_POLL_SECONDS):
            if deadline == float("inf"):
                deadline = time.monotonic() + _GRACE_SECONDS
                _signal_group(process.pid, signal.SIGTERM)
            elif time.monotonic() > deadline:
                _signal_group(process.pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
    if ended.si_status != 0:
        # The leader is not reaped yet, so its number still names this group and no other.
        _signal_group(process.pid, signal.SIGKILL)
    return process.wait()


def _exit_status(pid: int) -> os.waitid_result | None:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _locked(lock: IO[str], stop: Event) -> bool:
    """Wait for the cell's lock; false if stopped first."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop.wait(_POLL_SECONDS):
                return False
        else:
            return True


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the sweep as Ctrl-C does, so that no cell is left running by itself."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  | {line}" for line in lines)
