"""What a person sees who makes a mistake: every error, exit code 2, no traceback, at once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False
    )


def test_training_tells_all_three_errors() -> None:
    done = run("train/sft.py", "recipe=quickstart", "mix.rato=0.5", "trainer.learning_rate=fast", "lora.r=-1")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the recipe has 3 errors:",
        "  mix.rato=0.5 (command line): no such key. Did you mean mix.ratio?",
        "  trainer.learning_rate=fast (command line): needs a float.",
        "  lora.r=-1 (command line): must be at least 1.",
    ]
    assert done.stdout == ""


def test_the_launcher_passes_the_errors_on() -> None:
    launch = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
    launch += ("--mixed_precision", "no", "--dynamo_backend", "no")
    done = run(*launch, "train/sft.py", "recipe=quickstart", "mix.rato=0.5", "lora.r=-1")
    # A launcher of one process raises when the script fails, so its own traceback follows; the message comes first.
    assert done.stderr.startswith("error: the recipe has 2 errors:\n  mix.rato=0.5 (command line): no such key.")
    assert done.returncode == 2 or "returned non-zero exit status 2" in done.stderr


@pytest.mark.parametrize("flag", ["--print-config", "--help"])
def test_the_config_is_shown_at_once(flag: str) -> None:
    began = time.monotonic()
    done = run("train/sft.py", "recipe=quickstart", flag)
    seconds = time.monotonic() - began
    assert "mix:" in done.stdout if flag == "--print-config" else "usage:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # The budget is 1.5 s; a loaded machine gets ten times that here, which importing torch and TRL would still exceed
    # at the same load.
    assert seconds < 15


def test_validate(tmp_path: Path) -> None:
    done = run("-m", "recipes.validate")
    assert done.returncode == 0 and "ok  recipes/quickstart.yaml" in done.stdout
    (tmp_path / "bad.yaml").write_text("defaults: quickstart\nlora: {rr: 3}\nseed: x\n")
    done = run("-m", "recipes.validate", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "lora.rr=3 (bad.yaml): no such key. Did you mean lora.r?" in done.stderr
    assert "seed=x (bad.yaml): needs an integer." in done.stderr


def test_keys() -> None:
    done = run("-m", "recipes.keys", "lora", "drop")
    assert done.returncode == 0 and done.stdout.startswith("lora.lora_dropout = 0.0\n    a float.")
    done = run("-m", "recipes.keys", "nonsense")
    assert done.returncode == 2 and done.stderr.startswith("error: no key contains nonsense")


def test_submit_tells_its_own_errors_with_the_recipes() -> None:
    done = run("-m", "slurm.submit", "recipe=quickstart", "worker=2", "workers=0", "launcher=lsf", "mix.ratio=x")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for expected in (
        "error: the recipe has 4 errors:",
        "worker=2 (command line): no such key. Did you mean workers?",
        "workers=0 (command line): must be at least 1.",
        "launcher=lsf (command line): needs one of local.",
        "mix.ratio=x (command line): needs a float.",
    ):
        assert expected in done.stderr


def test_submit_needs_a_sweep_that_can_continue() -> None:
    done = run("-m", "slurm.submit", "recipe=quickstart", "sweep=null", "resume=never")
    assert done.returncode == 2 and "sweep: is empty." in done.stderr and "resume=never" in done.stderr
