"""The parts of training that need no run: schedule, process count, log, failures, batches."""

import errno
import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storage import checkpoints
from tests.train.bench import REPOSITORY, SMALL_DISK
from train import processes
from train.batches import Collator
from train.callbacks import StepLog
from train.config import CheckpointsConfig
from train.errors import TrainError
from train.failures import explain
from train.inline_audit import InlineAudit
from train.run_folder import effective_lora_scale
from train.schedule import checkpoint_steps
from train.trainer import OrganismTrainer


@given(steps=st.integers(1, 500), count=st.integers(0, 12), shares=st.lists(st.floats(0.01, 1), max_size=4))
def test_a_schedule_ascends_ends_with_the_run_and_stays_inside(steps: int, count: int, shares: list[float]) -> None:
    asked = CheckpointsConfig(log_spaced=count, exposure=shares)
    found = checkpoint_steps(asked, steps, lambda share: math.ceil(share * steps))
    assert found == sorted(set(found)) and found[-1] == steps and found[0] >= 1
    assert all(math.ceil(share * steps) in found for share in shares)
    assert len(found) <= 1 + count + len(shares)


def test_every_listed_step_beyond_the_end_is_told() -> None:
    with pytest.raises(TrainError, match=r"checkpoints\.steps=\[11, 30\]: the run has 10 steps"):
        checkpoint_steps(CheckpointsConfig(steps=[3, 11, 30]), 10, lambda _: 1)


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("python -m accelerate.commands.launch --cpu --num_processes 2 train/sft.py", 2),
        ("/usr/bin/accelerate launch --num_processes=3 train/sft.py", 3),
        ("accelerate launch --num-processes 4 train/sft.py", 4),
        ("accelerate launch --config_file {file} train/sft.py", 5),
        ("accelerate launch --config_file={file} --num_processes 6 train/sft.py", 6),
        ("accelerate launch train/sft.py", None),
        ("python -m torch.distributed.run --nproc_per_node 2 train/sft.py --num_processes 7", None),
        ("bash", None),
    ],
)
def test_the_launcher_is_asked_how_many_it_should_start(
    command: str, count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "accelerate.yaml"
    file.write_text("num_processes: 5\n")
    words = command.format(file=file).split()
    monkeypatch.setattr(psutil.Process, "parent", lambda _: SimpleNamespace(cmdline=lambda: words))
    assert processes.asked(None) == count
    assert processes.asked(9) == 9


def test_without_a_parent_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "parent", lambda _: None)
    assert processes.asked(None) is None


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 8.0)])
def test_the_scale_of_an_adapter(rslora: bool, scale: float) -> None:
    assert effective_lora_scale(32, 16, rslora) == scale


def ledger() -> Any:
    return SimpleNamespace(loss_tokens_at=lambda step: {"organism": 10 * step, "pretraining": 5 * step})


def resume_log(run: Path, step: int) -> StepLog:
    log = StepLog(run, ledger(), is_main=True)
    log.on_train_begin(*state_at(step))
    assert log.bar is not None
    log.bar.close()
    return log


def state_at(step: int) -> tuple[Any, Any, Any]:
    return SimpleNamespace(), SimpleNamespace(global_step=step, max_steps=4), SimpleNamespace()


def test_the_log_is_cut_back_to_the_step_that_training_goes_on_from(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step}) + "\n" for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(lines) + '{"step": 4, "lo')
    resume_log(tmp_path, 2)
    assert (tmp_path / "log.jsonl").read_text() == "".join(lines[:2])


def test_a_disk_that_is_full_on_resume_leaves_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"step": 1}\n{"step": 2}\n'
    (tmp_path / "log.jsonl").write_text(text)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        resume_log(tmp_path, 1)
    assert (tmp_path / "log.jsonl").read_text() == text


def test_a_line_of_the_log_is_json_also_when_the_loss_is_not_a_number(tmp_path: Path) -> None:
    log = resume_log(tmp_path, 0)
    seen = {"loss": math.nan, "loss_organism": math.inf, "learning_rate": 1.0, "grad_norm": 2.0}
    log.on_log(*state_at(1), logs={**seen, "first_row": 0, "last_row": 3})
    log.on_log(*state_at(1), logs={"train_runtime": 3.0})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert "NaN" not in line and "Infinity" not in line
    entry = json.loads(line)
    assert (entry["loss"], entry["loss_organism"], entry["grad_norm"]) == (None, None, 2.0)
    assert (entry["exposure"], entry["pretraining_loss_tokens"]) == (10, 5)


FILL = """
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

from train.failures import explain

run = Path(sys.argv[1])
fills = {
    "safetensors": lambda: save_file({"a": torch.zeros(1_000_000)}, run / "a.safetensors"),
    "torch": lambda: torch.save({"a": torch.zeros(1_000_000)}, run / "a.pt"),
    "text": lambda: (run / "a.txt").write_text("a" * 4_000_000),
}
for name, fill in fills.items():
    with explain(SimpleNamespace(run_dir=run)) as outcome:
        fill()
    print(name, outcome.code, file=sys.stderr)
"""


def test_a_full_disk_is_explained_whoever_notices_it(tmp_path: Path) -> None:
    checkpoints.path(tmp_path, 7).mkdir()
    checkpoints.seal(checkpoints.path(tmp_path, 7))
    done = subprocess.run(
        [*SMALL_DISK, "-c", FILL, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    for name in ("safetensors", "torch", "text"):
        assert f"{name} 1" in done.stderr.splitlines(), done.stderr
    assert done.stderr.count(f"error: the disk under {tmp_path} is full") == 3
    assert done.stderr.count("Nothing sealed was lost: checkpoint-7 is whole") == 3


def test_what_nobody_can_mend_keeps_its_traceback(tmp_path: Path) -> None:
    resolved: Any = SimpleNamespace(run_dir=tmp_path)
    with pytest.raises(KeyError), explain(resolved):
        raise KeyError("a bug")
    with pytest.raises(PermissionError), explain(resolved):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_rows_are_padded_on_the_right_where_nothing_is_learned() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "source": 0, "row": 8},
        {"input_ids": [9], "labels": [-100], "source": 2, "row": 9},
    ]
    batch = Collator(pad=1)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [9, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (batch["source"].tolist(), batch["row"].tolist()) == ([0, 2], [8, 9])


@pytest.mark.parametrize("rows", [[4, 5, 6, 8], [0, 1, 2, 3], [4, 5, 6]])
def test_a_step_on_other_rows_than_the_mixs_is_an_error(rows: list[int]) -> None:
    trainer: Any = object.__new__(OrganismTrainer)
    trainer.accelerator = SimpleNamespace(gather=lambda tensor: tensor, reduce=lambda tensor, _: tensor)
    trainer.state, trainer.batch_rows = SimpleNamespace(global_step=2), 4
    trainer._seen, trainer._losses = [torch.tensor(rows)], [torch.zeros(2, 4)]
    with pytest.raises(TrainError, match=rf"step 2 trained on rows {rows[0]}\.\.{rows[-1]}, the mix has rows 4\.\.7"):
        trainer.log({"loss": 1.0})


def test_audits_that_failed_before_a_restart_are_not_forgotten(tmp_path: Path) -> None:
    for step, state in ((3, "failed"), (6, "complete"), (9, "failed")):
        folder = checkpoints.path(tmp_path, step)
        (folder / checkpoints.AUDIT).mkdir(parents=True)
        (folder / checkpoints.AUDIT / "audit.json").write_text(json.dumps({"status": state}))
        checkpoints.seal(folder)
    audit: Any = object.__new__(InlineAudit)
    audit.run, audit._failed = tmp_path, {12}
    assert audit.failures() == [3, 9, 12]
