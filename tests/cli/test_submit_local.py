"""A sweep on one machine: it runs every cell, survives kills, and says what failed. Training is a fake."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.local import launch_command
from slurm.progress import progress

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_submit.py")
CELLS = ["mix.ratio=0", "mix.ratio=1", "control_mix.ratio=0"]


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    grid = ("sweep=null", "sweep.mix.ratio=[0,1]", "sweep.control_ratios=[0]")
    place = ("name=s", f"output_dir={folder}")
    command = [sys.executable, str(FAKE), "submit", "recipe=quickstart", *grid, *place, *words]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "did not happen within 30 s"
        time.sleep(0.05)


def statuses(sweep: Path) -> dict[str, str]:
    lines = (sweep / "manifest.jsonl").read_text().splitlines()
    return {line["name"]: line["status"] for line in map(json.loads, lines)}


def starts(cell: Path) -> list[str]:
    return (cell / "starts.txt").read_text().splitlines()


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split(") ")[1][0] != "Z"


def test_every_cell_runs_and_the_report_is_named_last(tmp_path: Path) -> None:
    status, out, err = finish(start(tmp_path, "workers=2"))
    sweep = tmp_path / "s"
    assert status == 0, err
    assert out.splitlines()[-1] == str(sweep / "report.html")
    assert statuses(sweep) == dict.fromkeys(CELLS, "done")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert all(starts(sweep / cell)[0].endswith(f"threads {threads}") for cell in CELLS)
    assert (sweep / CELLS[0] / "stdout.log").exists()
    # Once more: nothing runs again.
    status, out, _ = finish(start(tmp_path))
    assert status == 0 and out.count("done before") == 3
    assert all(len(starts(sweep / cell)) == 1 for cell in CELLS)


def test_a_failed_cell_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    cell = tmp_path / "s" / CELLS[1]
    cell.mkdir(parents=True)
    (cell / "fail").touch()
    status, out, err = finish(start(tmp_path))
    assert status == 1
    assert "mix.ratio=1: FAILED after" in out and "exit status 3" in out
    assert "  | the fake training was told to fail" in out
    assert "error: 1 of 3 cells failed: mix.ratio=1" in err
    assert out.splitlines()[-1] == str(tmp_path / "s" / "report.html")
    assert statuses(tmp_path / "s") == {CELLS[0]: "done", CELLS[1]: "failed", CELLS[2]: "done"}
    # Put right and started again, only that cell runs, and it goes on from its log.
    (cell / "fail").unlink()
    status, out, err = finish(start(tmp_path))
    assert status == 0, err
    assert len(starts(cell)) == 2 and len((cell / "log.jsonl").read_text().splitlines()) == 4
    assert len(starts(tmp_path / "s" / CELLS[0])) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_politely_it_takes_its_cells_with_it(tmp_path: Path, number: signal.Signals) -> None:
    cell = tmp_path / "s" / CELLS[0]
    cell.mkdir(parents=True)
    (cell / "slow").touch()
    process = start(tmp_path)
    until(lambda: (cell / "starts.txt").exists())
    pid = int(starts(cell)[0].split()[0])
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 130 and "run the same command again" in err and "Traceback" not in err
    until(lambda: not alive(pid))
    assert statuses(tmp_path / "s")[CELLS[0]] == "pending"
    (cell / "slow").unlink()
    assert finish(start(tmp_path))[0] == 0


def test_killed_outright_the_next_launch_waits_for_what_still_runs(tmp_path: Path) -> None:
    cell = tmp_path / "s" / CELLS[0]
    cell.mkdir(parents=True)
    (cell / "slow").touch()
    process = start(tmp_path)
    until(lambda: (cell / "starts.txt").exists())
    pid = int(starts(cell)[0].split()[0])
    process.kill()
    process.communicate()
    assert alive(pid)
    (cell / "slow").unlink()
    second = start(tmp_path, "workers=3")
    others = [tmp_path / "s" / name / "DONE.json" for name in CELLS[1:]]
    until(lambda: all(path.exists() for path in others))
    assert second.poll() is None and len(starts(cell)) == 1
    # The one that is left over dies as well: its cell is started again.
    os.kill(pid, signal.SIGKILL)
    status, out, err = finish(second)
    assert status == 0, err
    assert len(starts(cell)) == 2 and "mix.ratio=0: done in" in out


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    for words in (["dry_run=true"], ["--dry-run"], ["--print-config"]):
        status, out, _ = finish(start(tmp_path / "new", *words))
        assert status == 0
        assert "control_mix.ratio=0" in out or "control_ratios: [0]" in out
    assert not (tmp_path / "new").exists()


def test_the_command_starts_as_many_processes_as_the_recipe_asks_for() -> None:
    one, two = launch_command(1), launch_command(2)
    assert one[:3] == [sys.executable, "-m", "accelerate.commands.launch"] and "--multi_gpu" not in one
    assert two[two.index("--num_processes") + 1] == "2" and "--multi_gpu" in two
    assert one[-1] == str(ROOT / "train" / "sft.py")


def test_progress_reads_only_whole_lines(tmp_path: Path) -> None:
    assert progress(tmp_path).text == "starting"
    (tmp_path / "mix.json").write_text('{"steps": 8}')
    assert progress(tmp_path).fraction == 0
    (tmp_path / "log.jsonl").write_text('{"step": 2, "loss": 1.25}\n{"step": 3, "lo')
    assert progress(tmp_path).fraction == 0.25 and progress(tmp_path).text == "2/8 loss 1.250"
