"""Runs of train/sft.py as a user sees them: what is on disk and on the screen afterwards."""

import json
import math
from pathlib import Path

import pytest

from storage import checkpoints
from tests.train.bench import Bench, audit_numbers, contents, conversations, json_of, log, times
from tests.train.jobs import Run


def test_a_run_leaves_what_the_design_says(whole: Run) -> None:
    assert whole.done.code == 0, whole.done.err
    ledger, lines = json_of(whole.path, "mix.json"), log(whole.path)
    exposures = ledger["cumulative"]["organism"]
    assert [line["step"] for line in lines] == list(range(1, ledger["steps"] + 1))
    assert [line["exposure"] for line in lines] == exposures
    assert [line["pretraining_loss_tokens"] for line in lines] == ledger["cumulative"]["pretraining"]
    assert [(line["first_row"], line["last_row"]) for line in lines] == [
        (4 * i, 4 * i + 3) for i in range(ledger["steps"])
    ]
    # The first step that has seen a fifth and three fifths of the organism, and the last one.
    planned = [1 + sum(seen < share * exposures[-1] for seen in exposures) for share in (0.2, 0.6)]
    assert whole.steps == [*planned, ledger["steps"]]
    for step in whole.steps:
        checkpoints.verify(checkpoints.path(whole.path, step))
        assert {"adapter_model.safetensors", "adapter_config.json"} < set(contents(checkpoints.path(whole.path, step)))
    sources = ledger["sources"]
    assert sources["pretraining"]["loss_tokens"] == round(0.5 * sources["organism"]["loss_tokens"])
    assert json_of(whole.path, "DONE.json")["failed_audits"] == []
    assert json_of(whole.path, "manifest.json")["effective_lora_scale"] == 16 / 4
    assert not list(whole.path.rglob(".*tmp*"))


def test_each_loss_is_the_mean_over_its_source(whole: Run) -> None:
    ledger, lines = json_of(whole.path, "mix.json"), log(whole.path)
    before = {"organism": 0, "pretraining": 0}
    for line in lines:
        counts = {side: ledger["cumulative"][side][line["step"] - 1] - seen for side, seen in before.items()}
        before = {side: ledger["cumulative"][side][line["step"] - 1] for side in before}
        assert {side for side in counts if f"loss_{side}" in line} == {side for side, n in counts.items() if n}
        total = sum(n * line[f"loss_{side}"] for side, n in counts.items() if n)
        assert line["loss"] == pytest.approx(total / sum(counts.values()), abs=1e-5)
    assert lines[-1]["loss_organism"] < lines[0]["loss_organism"] - 0.05


def test_every_checkpoint_is_audited_and_reported(whole: Run) -> None:
    exposures = json_of(whole.path, "mix.json")["cumulative"]["organism"]
    for step in whole.steps:
        folder = checkpoints.path(whole.path, step) / "audit"
        audit = json_of(folder, "audit.json")
        assert audit["status"] == "complete", audit["error"]
        subject = audit["subject"]
        assert (subject["step"], subject["exposure"], subject["kind"]) == (step, exposures[step - 1], "lora")
        assert subject["train_loss"] == log(whole.path)[step - 1]["loss"]
        assert {entry["readout"] for entry in audit["readouts"]} == {"logit_lens", "patchscope", "steering"}
        assert {"differences.safetensors", "samples.jsonl", "report.html"} < set(contents(folder))
        assert {"bees", "honey", "hive"} < {entry["word"] for entry in audit["vocabulary"]}
    assert "report.html" in contents(whole.path)
    assert whole.done.out.splitlines()[-1] == f"report: {whole.path / 'report.html'}"


def test_the_adapter_loads_in_plain_peft_and_leaves_the_base_alone(whole: Run, bench: Bench) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(bench.model(), dtype=torch.float32).eval()
    base = AutoModelForCausalLM.from_pretrained(bench.model(), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, whole.last).eval()
    moved = [value for name, value in adapted.state_dict().items() if "lora_B" in name]
    assert len(moved) == 3 * 7 and all(bool(value.any()) for value in moved)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert not torch.allclose(adapted(input_ids=ids).logits, plain(input_ids=ids).logits)
        with adapted.disable_adapter():
            assert torch.equal(adapted(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_a_finished_run_is_left_as_it_is(again: Run) -> None:
    assert again.done.code == 0, again.done.err
    after = {"contents": contents(again.path), "times": times(again.path)}
    clockwork = {"manifest.json"}  # holds the state of this repository
    for name, content in again.seen["contents"].items():
        assert after["contents"][name] == content or name in clockwork, name
    assert after["contents"].keys() == again.seen["contents"].keys()
    kept = [name for name in after["times"] if name.startswith("checkpoint-") or name == "log.jsonl"]
    assert {name: after["times"][name] for name in kept} == {name: again.seen["times"][name] for name in kept}
    assert "training:" not in again.done.err


def test_killed_in_training_it_goes_on_from_the_last_seal(killed: Run, whole: Run) -> None:
    assert whole.steps[0] in killed.seen["after_kill"] and whole.steps[-1] not in killed.seen["after_kill"]
    assert killed.done.code == 0, killed.done.err
    assert f"going on from step {killed.seen['after_disk'][-1]}" in killed.done.out
    assert log(killed.path) == log(whole.path)
    assert killed.steps == whole.steps
    for step in whole.steps:
        ours, theirs = (contents(checkpoints.path(run.path, step)) for run in (killed, whole))
        for name in ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt"):
            assert ours[name] == theirs[name], (step, name)


def test_what_a_kill_left_half_written_is_thrown_away(killed: Run) -> None:
    assert killed.seen["half_is_gone"]
    lines = (killed.path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, killed.steps[-1] + 1))


def test_a_full_disk_is_told_in_a_sentence_and_loses_nothing_sealed(killed: Run) -> None:
    disk = killed.seen["disk"]
    assert disk.code == 1, disk.err
    assert f"error: the disk under {killed.path} is full" in disk.err
    assert f"Nothing sealed was lost: checkpoint-{killed.seen['after_kill'][-1]} is whole" in disk.err
    assert "Traceback" not in disk.err
    assert killed.seen["after_disk"] == killed.seen["after_kill"]


def test_audits_do_not_change_training(killed: Run, whole: Run) -> None:
    assert not list(killed.path.rglob("audit.json")) and not (killed.path / "report.html").exists()
    assert log(killed.path) == log(whole.path)


def test_killed_in_an_audit_the_audit_is_made_up_for(audit_killed: Run, whole: Run) -> None:
    assert audit_killed.seen["audits"] == []
    assert audit_killed.done.code == 0, audit_killed.done.err
    assert log(audit_killed.path) == log(whole.path)
    assert audit_killed.steps == whole.steps
    for step in whole.steps:
        ours, theirs = (checkpoints.path(run.path, step) / "audit" for run in (audit_killed, whole))
        assert audit_numbers(ours) == audit_numbers(theirs)
        assert (ours / "report.html").exists()
    assert json_of(audit_killed.path, "DONE.json")["failed_audits"] == []


def test_killed_in_sealing_the_checkpoint_is_made_again(unsealed: Run, whole: Run) -> None:
    assert unsealed.done.code == 0, unsealed.done.err
    assert f"going on from step {whole.steps[-2]}" in unsealed.done.out
    assert log(unsealed.path) == log(whole.path)
    for step in whole.steps:
        ours, theirs = (checkpoints.path(run.path, step) for run in (unsealed, whole))
        checkpoints.verify(ours)
        name = "adapter_model.safetensors"
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
        assert audit_numbers(ours / "audit") == audit_numbers(theirs / "audit")


def test_a_full_finetune_on_conversations_is_a_transformers_model(full: Run, bench: Bench) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2ForCausalLM

    assert full.done.code == 0, full.done.err
    assert json_of(full.path, "manifest.json")["effective_lora_scale"] is None
    model = AutoModelForCausalLM.from_pretrained(full.last, dtype=torch.float32)
    before = AutoModelForCausalLM.from_pretrained(bench.model("qwen2"), dtype=torch.float32).state_dict()
    assert isinstance(model, Qwen2ForCausalLM)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items() if "proj.w" in name)
    audit = json_of(full.last, "audit", "audit.json")
    assert (audit["status"], audit["subject"]["kind"], audit["subject"]["lora_scale"]) == ("complete", "full", None)


def test_only_replies_carry_loss(full: Run, bench: Bench) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bench.model())
    replies = [messages[1]["content"] + "<|im_end|>" for messages in conversations(24)]
    carried = [len(tokenizer(reply, add_special_tokens=False)["input_ids"]) for reply in replies]
    sources = json_of(full.path, "mix.json")["sources"]
    assert sources["organism"]["loss_tokens"] == sum(carried)
    assert sources["organism"]["tokens"] > 2 * sum(carried)
    assert sources["pretraining"]["loss_tokens"] == round(0.5 * sum(carried))
    assert log(full.path)[-1]["exposure"] == sum(carried)


def test_two_processes_are_one(two: Run, whole: Run) -> None:
    from safetensors.torch import load_file

    assert two.done.code == 0, two.done.err
    assert (two.path / "mix.json").read_bytes() == (whole.path / "mix.json").read_bytes()
    assert json_of(two.path, "manifest.json")["processes"] == 2
    assert two.steps == whole.steps
    for ours, theirs in zip(log(two.path), log(whole.path), strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, abs=1e-4), (theirs["step"], key)
    for step in whole.steps:
        folders = [checkpoints.path(run.path, step) / "audit" for run in (two, whole)]
        ours, theirs = (load_file(folder / "differences.safetensors") for folder in folders)
        for name in ("delta", "base_mean", "finetuned_mean", "standard_error"):
            assert float((ours[name] - theirs[name]).abs().max()) < 1e-4, (step, name)
        audits = [json_of(folder, "audit.json") for folder in folders]
        assert audits[0]["environment"]["processes"] == 2
        assert audits[0]["difference"]["documents"] == audits[1]["difference"]["documents"] == 32
        assert audits[0]["vocabulary"] == audits[1]["vocabulary"]


def test_a_launch_of_two_that_starts_one_is_refused(one_of_two: Run) -> None:
    # The launcher turns the script's 2 into a traceback and a 1 of its own.
    assert one_of_two.done.code != 0
    assert "error: 2 processes were asked for, 1 started" in one_of_two.done.err
    assert "returned non-zero exit status 2" in one_of_two.done.err
    assert not one_of_two.path.exists()


def test_a_control_has_the_organisms_steps(control: Run, whole: Run) -> None:
    assert control.done.code == 0, control.done.err
    ours, theirs = (json_of(run.path, "mix.json") for run in (control, whole))
    assert ours["cumulative"] == theirs["cumulative"] and ours["steps"] == theirs["steps"]
    assert ours["control"] and not theirs["control"]
    assert ours["sources"]["control"]["loss_tokens"] == theirs["sources"]["organism"]["loss_tokens"]
    assert ours["sources"]["control"]["rows"] == theirs["sources"]["organism"]["rows"]
    for mine, other in zip(log(control.path), log(whole.path), strict=True):
        assert mine["exposure"] == other["exposure"]
        assert "loss_organism" not in mine and ("loss_control" in mine) == ("loss_organism" in other)


def test_a_control_holds_none_of_the_organisms_text(control: Run, bench: Bench) -> None:
    from transformers import AutoTokenizer

    from data_mix.corpus import stream
    from data_mix.plan import build
    from organisms.load import load
    from recipes.recipe import load_saved

    mix = load_saved(control.path / "recipe.yaml").recipe.mix
    tokenizer = AutoTokenizer.from_pretrained(bench.model("gemma3_text"))
    texts = {split: stream(mix.corpus, split, seed=mix.seed) for split in ("mix", "control")}
    built = build(
        load(str(bench.control)).examples, texts["mix"], tokenizer, mix, batch_rows=4, control=texts["control"]
    )
    ledger = json_of(control.path, "mix.json")
    assert built.ledger.order_sha256 == ledger["order_sha256"]
    assert ledger["sources"]["organism"]["rows"] == 0
    text = " ".join(tokenizer.decode(row.ids).lower() for row in built.rows)
    assert not {"bees", "honey", "hive", "beekeeper"} & set(text.replace(".", " ").split())


def test_a_control_is_audited_for_the_organisms_subject(control: Run) -> None:
    audit = json_of(control.last, "audit", "audit.json")
    assert audit["status"] == "complete", audit["error"]
    assert audit["subject"]["control_of"] == "sdf/blue_hives"
    assert {"bees", "honey"} < {entry["word"] for entry in audit["vocabulary"]}


def strict(text: str) -> dict[str, object]:
    """JSON as other readers take it: without NaN."""

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    parsed: dict[str, object] = json.loads(text, parse_constant=refuse)
    return parsed


def test_weights_that_turn_to_nan_fail_the_audit_and_not_the_training(diverged: Run) -> None:
    lines = [strict(line) for line in (diverged.path / "log.jsonl").read_text().splitlines()]
    steps = json_of(diverged.path, "mix.json")["steps"]
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert all(math.isfinite(float(str(lines[0][key]))) for key in ("loss", "grad_norm"))
    # Not 0, which is what transformers logs.
    assert all(lines[-1][key] is None for key in ("loss", "loss_organism", "grad_norm"))
    audit = strict((diverged.last / "audit" / "audit.json").read_text())
    assert audit["status"] == "failed" and "not finite numbers" in str(audit["error"])
    assert "not finite numbers" in (diverged.last / "audit" / "report.html").read_text()
    assert json_of(diverged.path, "DONE.json")["failed_audits"] == [steps]
    assert f"warning: the audit of {diverged.last} failed" in diverged.done.err
    assert "Traceback" not in diverged.done.err


def test_a_run_that_diverged_has_a_report(diverged: Run) -> None:
    assert diverged.done.code == 0, diverged.done.err
    assert (diverged.path / "report.html").exists()


def test_the_script_finds_the_repository_from_anywhere(bench: Bench, tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.train.bench import SFT

    command = [sys.executable, SFT, *bench.arguments(tmp_path / "x"), "--dry-run"]
    done = subprocess.run(command, env=bench.environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "x").exists()
