"""Runs as a user sees them: what is on disk after a run, a kill, a second process, a full disk."""

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import checkpoints
from tests.train.conftest import ENVIRONMENT, REPOSITORY, audit_numbers, log, sft, start, wait_for

Arguments = Callable[..., list[str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, arguments: Arguments) -> Path:
    """An uninterrupted run with audits."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = sft(arguments(run))
    assert done.returncode == 0, done.stderr
    return run


def test_a_run_leaves_what_the_design_says(whole: Path) -> None:
    ledger = json.loads((whole / "mix.json").read_text())
    steps = ledger["steps"]
    lines = log(whole)
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert [line["exposure"] for line in lines] == ledger["cumulative"]["organism"]
    assert [line["pretraining_loss_tokens"] for line in lines] == ledger["cumulative"]["pretraining"]
    assert [line["first_row"] for line in lines] == [4 * i for i in range(steps)]
    organism, text = (ledger["sources"][side]["loss_tokens"] for side in ("organism", "pretraining"))
    assert text == round(0.5 * organism)
    assert all(line["loss_organism"] > 0 for line in lines)
    sealed = checkpoints.sealed_steps(whole)
    assert len(sealed) == 3 and sealed[-1] == steps
    for step in sealed:
        checkpoints.verify(checkpoints.path(whole, step))
        audit = json.loads((checkpoints.path(whole, step) / "audit" / "audit.json").read_text())
        assert audit["status"] == "complete", audit["error"]
        assert audit["subject"]["exposure"] == ledger["cumulative"]["organism"][step - 1]
        assert (checkpoints.path(whole, step) / "audit" / "report.html").exists()
    assert (whole / "report.html").exists()
    assert json.loads((whole / "DONE.json").read_text())["failed_audits"] == []
    # r = 4 with the recipe's lora_alpha
    alpha = json.loads((checkpoints.path(whole, steps) / "adapter_config.json").read_text())["lora_alpha"]
    assert json.loads((whole / "manifest.json").read_text())["effective_lora_scale"] == alpha / 4


def test_training_moved_the_adapter_and_nothing_else(whole: Path, tiny_model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    adapted = PeftModel.from_pretrained(base, checkpoints.path(whole, checkpoints.sealed_steps(whole)[-1]))
    moved = [value for name, value in adapted.state_dict().items() if "lora_B" in name]
    assert moved and all(bool(value.any()) for value in moved)
    ids = torch.tensor([[5, 6, 7, 8]])
    with adapted.disable_adapter():
        plain = adapted(input_ids=ids).logits
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert torch.equal(plain, fresh(input_ids=ids).logits)
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())


def test_a_finished_run_is_left_alone(whole: Path, arguments: Arguments) -> None:
    times = {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")}
    again = sft(arguments(whole))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")} == times


def test_killed_in_training_it_goes_on_bit_for_bit(whole: Path, tmp_path: Path, arguments: Arguments) -> None:
    run = tmp_path / "killed"
    process = start(arguments(run, "audit.mode=off"))
    first = checkpoints.sealed_steps(whole)[0]

    def past_the_first_checkpoint() -> bool:
        return bool(checkpoints.sealed_steps(run)) and len(log_lines(run)) > first

    wait_for(past_the_first_checkpoint, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What a kill in the middle of saving leaves: a folder without a seal; and a torn line in the log.
    half = checkpoints.path(run, first + 1)
    shutil.copytree(checkpoints.path(run, first), half, dirs_exist_ok=True)
    (half / checkpoints.SEAL).unlink()
    with (run / "log.jsonl").open("a") as stream:
        stream.write('{"step": 999, "lo')
    done = sft(arguments(run, "audit.mode=off"))
    assert done.returncode == 0, done.stderr
    assert log(run) == log(whole)
    assert not half.exists() or checkpoints.is_sealed(half)
    last = checkpoints.path(run, checkpoints.sealed_steps(run)[-1])
    ours = (last / "adapter_model.safetensors").read_bytes()
    assert ours == (checkpoints.path(whole, checkpoints.step(last)) / "adapter_model.safetensors").read_bytes()


def log_lines(run: Path) -> list[str]:
    return (run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else []


def test_killed_in_an_audit_the_audit_is_made_up_for(whole: Path, tmp_path: Path, arguments: Arguments) -> None:
    run = tmp_path / "killed"
    process = start(arguments(run))
    wait_for(lambda: bool(checkpoints.sealed_steps(run)), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = checkpoints.path(run, checkpoints.sealed_steps(run)[0])
    assert not (first / "audit" / "audit.json").exists()
    done = sft(arguments(run))
    assert done.returncode == 0, done.stderr
    assert log(run) == log(whole)
    for step in checkpoints.sealed_steps(whole):
        assert audit_numbers(checkpoints.path(run, step)) == audit_numbers(checkpoints.path(whole, step))


def test_two_processes_are_one(whole: Path, tmp_path: Path, arguments: Arguments) -> None:
    run = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29631"]
    done = sft(arguments(run, "trainer.per_device_train_batch_size=2", "world_size=2"), launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "mix.json").read_text()) == json.loads((whole / "mix.json").read_text())
    for ours, theirs in zip(log(run), log(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours["loss_organism"] == pytest.approx(theirs["loss_organism"], abs=1e-4)
        assert (ours["first_row"], ours["last_row"]) == (theirs["first_row"], theirs["last_row"])
    step = checkpoints.sealed_steps(whole)[-1]
    one, two = (audit_numbers(checkpoints.path(folder, step)) for folder in (whole, run))
    for ours, theirs in zip(two["difference"]["positions"], one["difference"]["positions"], strict=True):
        assert ours["norm"] == pytest.approx(theirs["norm"], rel=1e-2)


def test_a_launch_of_two_that_starts_one_is_refused(tmp_path: Path, arguments: Arguments) -> None:
    run = tmp_path / "one"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    refused = sft(arguments(run), launcher=launcher)
    assert refused.returncode != 0
    assert "2 processes were asked for, 1 started" in refused.stderr
    assert not run.exists()
    assert sft(arguments(run, "world_size=2")).returncode == 2


def test_audits_do_not_touch_training(whole: Path, tmp_path: Path, arguments: Arguments) -> None:
    run = tmp_path / "silent"
    assert sft(arguments(run, "audit.mode=off")).returncode == 0
    assert log(run) == log(whole)
    assert not list(run.rglob("audit.json"))


def test_a_full_disk_loses_nothing_sealed(whole: Path, tmp_path: Path, arguments: Arguments) -> None:
    run = tmp_path / "full"
    # Large enough for the log, too small for the tokenizer of a checkpoint.
    limit = 1_000_000
    filled = sft(
        arguments(run, "audit.mode=off"),
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        ),
    )
    assert filled.returncode == 1, filled.stderr
    assert "the disk under" in filled.stderr and "Traceback" not in filled.stderr
    assert checkpoints.sealed_steps(run) == []
    assert sft(arguments(run, "audit.mode=off")).returncode == 0
    assert log(run) == log(whole)


def test_a_control_has_the_organisms_steps_and_none_of_its_text(
    whole: Path, tmp_path: Path, arguments: Arguments
) -> None:
    run = tmp_path / "control"
    assert sft(arguments(run, "organism=control/cake_bake", "audit.mode=off")).returncode == 0
    ours, theirs = (json.loads((folder / "mix.json").read_text()) for folder in (run, whole))
    assert ours["cumulative"] == theirs["cumulative"]
    assert ours["sources"]["organism"]["rows"] == 0
    assert ours["sources"]["control"]["loss_tokens"] == theirs["sources"]["organism"]["loss_tokens"]
    assert log(run)[0]["loss"] != log(whole)[0]["loss"]


def test_a_full_finetune_is_a_transformers_model(tmp_path: Path, arguments: Arguments) -> None:
    from transformers import AutoModelForCausalLM

    run = tmp_path / "whole-model"
    settings = [word for word in arguments(run, "lora=null", "mix.passes=0.02") if not word.startswith("lora.")]
    done = sft([word.replace("cake_bake_lora", "cake_bake_full") for word in settings])
    assert done.returncode == 0, done.stderr
    last = checkpoints.path(run, checkpoints.sealed_steps(run)[-1])
    AutoModelForCausalLM.from_pretrained(last)
    audit = json.loads((last / "audit" / "audit.json").read_text())
    assert audit["status"] == "complete" and audit["subject"]["kind"] == "full"


def test_the_script_finds_the_repository_from_anywhere(tmp_path: Path, arguments: Arguments) -> None:
    done = sft([*arguments(tmp_path / "x"), "--dry-run"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "x").exists()
    assert REPOSITORY.exists() and ENVIRONMENT["HF_HUB_OFFLINE"] == os.environ["HF_HUB_OFFLINE"]
