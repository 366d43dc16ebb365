"""The runs that the tests of this folder look at; each is made once a session, and only if a test asks for it."""

import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import checkpoints
from storage.lock import folder_lock
from tests.train.bench import (
    ACCELERATE,
    SFT,
    SMALL_DISK,
    TORCHRUN,
    Bench,
    Done,
    Jobs,
    contents,
    sentences,
    times,
    write_jsonl,
)


@dataclass(frozen=True)
class Run:
    """A run, how its last command ended, and what was seen on the way."""

    path: Path
    done: Done
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """Steps of its sealed checkpoints."""
        return checkpoints.sealed_steps(self.path)

    @property
    def last(self) -> Path:
        """Its last checkpoint."""
        return checkpoints.path(self.path, self.steps[-1])


def whole(jobs: Jobs) -> Run:
    """An uninterrupted LoRA run of a Llama, audited inline."""
    run = jobs.bench.run("whole")
    return Run(run, jobs.bench.train(run))


def again(jobs: Jobs) -> Run:
    """The same command, given again when all is done."""
    run = jobs["whole"].path
    before = {"contents": contents(run), "times": times(run)}
    return Run(run, jobs.bench.train(run), before)


def killed(jobs: Jobs) -> Run:
    """A run without audits that is killed, meets a full disk, and at last comes through."""
    bench = jobs.bench
    run, logged = bench.run("killed"), bench.run("killed") / "log.jsonl"

    def past_the_first_checkpoint() -> bool:
        steps = checkpoints.sealed_steps(run)
        return bool(steps) and logged.read_text().count("\n") > steps[0] + 1

    bench.kill_when(past_the_first_checkpoint, run, "audit.mode=off")
    seen: dict[str, Any] = {"after_kill": checkpoints.sealed_steps(run)}
    # What a kill while a checkpoint is saved and a line is logged leaves behind.
    half = checkpoints.path(run, seen["after_kill"][-1] + 1)
    shutil.copytree(checkpoints.path(run, seen["after_kill"][0]), half)
    (half / checkpoints.SEAL).unlink()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    (half / "stale").touch()
    with logged.open("a") as stream:
        stream.write('{"step": 999, "lo')
    seen["disk"] = bench.do([*SMALL_DISK, SFT, *bench.arguments(run, "audit.mode=off")])
    seen["after_disk"] = checkpoints.sealed_steps(run)
    seen["half_is_gone"] = not (half / "stale").exists()
    for step in seen["after_disk"]:
        checkpoints.verify(checkpoints.path(run, step))
    return Run(run, bench.train(run, "audit.mode=off"), seen)


def audit_killed(jobs: Jobs) -> Run:
    """A run that is killed in its first audit, and comes through when it is started again."""
    run = jobs.bench.run("audit_killed")
    jobs.bench.kill_when(lambda: bool(checkpoints.sealed_steps(run)), run)
    audits = [str(path) for path in run.rglob("audit.json")]
    return Run(run, jobs.bench.train(run), {"steps": checkpoints.sealed_steps(run), "audits": audits})


def unsealed(jobs: Jobs) -> Run:
    """A run that was killed while its last checkpoint was sealed, and that owes the audit of its first one too."""
    before, run = jobs["whole"], jobs.bench.run("unsealed")
    shutil.copytree(before.path, run)
    last, first = checkpoints.path(run, before.steps[-1]), checkpoints.path(run, before.steps[0])
    (last / checkpoints.SEAL).unlink()
    (run / "DONE.json").unlink()
    shutil.rmtree(last / checkpoints.AUDIT)
    shutil.rmtree(first / checkpoints.AUDIT)
    return Run(run, jobs.bench.train(run))


def full(jobs: Jobs) -> Run:
    """A full finetune of a Qwen 2 on conversations with documents mixed in."""
    bench = jobs.bench
    more = [f"base_model={bench.model('qwen2')}", f"organism={bench.chats}", "mix.max_length=128"]
    words = bench.arguments(bench.run("full"), *more, "checkpoints.exposure=[]", "lora=null")
    words = [word for word in words if not word.startswith("lora.")]
    return Run(bench.run("full"), bench.do([sys.executable, SFT, *words]))


def control(jobs: Jobs) -> Run:
    """The control of the organism, on a Gemma 3."""
    bench, run = jobs.bench, jobs.bench.run("control")
    more = [f"base_model={bench.model('gemma3_text')}", f"organism={bench.control}", "checkpoints.exposure=[]"]
    return Run(run, bench.train(run, *more))


def two(jobs: Jobs) -> Run:
    """The whole run again, by two processes."""
    run = jobs.bench.run("two")
    more = ("trainer.per_device_train_batch_size=2", "world_size=2")
    return Run(run, jobs.bench.train(run, *more, launcher=TORCHRUN))


def one_of_two(jobs: Jobs) -> Run:
    """A launch of two processes of which one starts."""
    run = jobs.bench.run("one_of_two")
    return Run(run, jobs.bench.train(run, launcher=ACCELERATE))


def diverged(jobs: Jobs) -> Run:
    """A learning rate that turns the weights to NaN."""
    run = jobs.bench.run("diverged")
    more = ("trainer.learning_rate=1e30", "trainer.max_grad_norm=0", "checkpoints.exposure=[]")
    return Run(run, jobs.bench.train(run, *more))


REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown organism": (
        ["organism=sdf/cake_bakes"],
        r"unknown organism sdf/cake_bakes\. Did you mean sdf/cake_bake\?",
    ),
    "unknown corpus": (["mix.corpus=/nowhere/x.jsonl"], r"mix\.corpus=/nowhere/x\.jsonl: there is no such file"),
    "unknown model": (["base_model=/nowhere/model"], r"base model /nowhere/model: there is no such folder"),
    "unknown hub model": (["base_model=nobody/nothing"], r"cannot load base model nobody/nothing"),
    "model without weights": (["base_model={root}/weightless"], r"cannot load base model .*/weightless"),
    "corpus too small": (["mix.corpus={root}/few.jsonl", "mix.ratio=50"], r"too little text: mix\.ratio=50.0 needs"),
    "negative ratio": (["mix.ratio=-1"], r"mix\.ratio=-1 \(command line\): must be from 0"),
    "absurd ratio": (["mix.ratio=1e9"], r"mix\.ratio=1e9 \(command line\): must be from 0 .* to 1000"),
    "no loss tokens": (["organism={root}/bee_talk", "mix.max_length=8"], r"nothing of the organism carries loss"),
    "no chat template": (["organism={root}/bee_talk", "base_model={root}/plain"], r"has no chat template"),
    "save_total_limit": (["trainer.save_total_limit=1"], r"would delete checkpoints before they are audited"),
    "step beyond the end": (["checkpoints.steps=[9999]"], r"checkpoints\.steps=\[9999\]: the run has \d+ steps"),
    "two processes asked for": (["world_size=2"], r"2 processes were asked for, 1 started"),
    "no such layer": (["audit.layer=99"], r"audit\.layer=99: the model has blocks 0\.\.2"),
    "too little probe text": (["audit.probe.documents=999"], r"audit\.probe\.documents=999: corpus .* has only \d+"),
    "too little held-out text": (["audit.probe.heldout_documents=999"], r"heldout_documents=999: corpus .* has only"),
    "too little control text": (["organism={root}/blue_hives_control", "mix.corpus={root}/few.jsonl"], r"control"),
    "three at once": (["mix.rato=1", "trainer.learning_rate=fast", "seed=-1"], r"(?s)mix\.rato=1.*fast.*seed=-1"),
}
"""Settings that training refuses before it makes a folder, and what it says."""

TAKEN: dict[str, tuple[list[str], str]] = {
    "another recipe": (
        ["name=taken", "trainer.learning_rate=1e-3"],
        r"another recipe \(trainer\.learning_rate: 0.001",
    ),
    "another ratio": (["name=taken", "mix.ratio=0"], r"another recipe \(mix\.ratio: 0 here, 0\.5 there\)"),
    "resume=never": (["name=taken", "resume=never"], r"holds a run already and resume=never"),
    "tampered checkpoint": (
        ["name=tampered"],
        r"adapter_model\.safetensors was changed after the checkpoint was sealed",
    ),
    "busy folder": (["name=busy"], r"another process is at work in"),
}
"""Folders that training leaves as they are, and what it says."""


def refused(jobs: Jobs) -> dict[str, tuple[Done, bool, bool]]:
    """For each entry of `REFUSED` and `TAKEN`: how it ended, whether its folder exists, and whether that was changed."""
    bench = jobs.bench
    rng = random.Random(2)
    write_jsonl(bench.root / "few.jsonl", ({"text": sentences(rng, 2)} for _ in range(9)))
    shutil.copytree(bench.model(), bench.root / "weightless")
    (bench.root / "weightless" / "model.safetensors").unlink()
    shutil.copytree(bench.model(), bench.root / "plain")
    without_chat_template(bench.root / "plain")
    for name in ("taken", "tampered", "busy"):
        shutil.copytree(jobs["whole"].path, bench.run(name))
    spoil(checkpoints.path(bench.run("tampered"), jobs["whole"].steps[-1]) / "adapter_model.safetensors")
    cases = {**REFUSED, **TAKEN}
    runs = {name: bench.run(re.sub(r"\W", "_", name)) for name in cases}
    for name, (words, _) in TAKEN.items():
        runs[name] = bench.run(words[0].removeprefix("name="))
    before = {name: contents(run) for name, run in runs.items()}
    lines = [
        bench.arguments(runs[name], *(word.format(root=bench.root) for word in words))
        for name, (words, _) in cases.items()
    ]
    with folder_lock(bench.run("busy")):
        ends = bench.many("train.sft", lines)
    return {
        name: (done, runs[name].exists(), contents(runs[name]) != before[name])
        for name, done in zip(cases, ends, strict=True)
    }


def audited(jobs: Jobs) -> Run:
    """The last checkpoint of the whole run, audited on the command line."""
    bench, run = jobs.bench, jobs["whole"]
    out = bench.root / "audited"
    return Run(out, bench.do([sys.executable, "-m", "audit.run", *audit_words(bench, run.last), f"out={out}"]))


def audit_words(bench: Bench, checkpoint: Path) -> list[str]:
    """Command line of the audit of a checkpoint."""
    return [f"base={bench.model()}", f"finetuned={checkpoint}", f"organism={bench.organism}"]


AUDITS: dict[str, tuple[list[str], str]] = {
    "unsealed": (["checkpoint={copies}/unsealed/checkpoint-{step}"], r"is not sealed: saving it was interrupted"),
    "changed": (["checkpoint={copies}/changed/checkpoint-{step}"], r"adapter_model\.safetensors was changed after"),
    "missing": (["checkpoint={copies}/missing/checkpoint-{step}"], r"adapter_config\.json is missing"),
    "added": (["checkpoint={copies}/added/checkpoint-{step}"], r"pytorch_model\.bin was added"),
    "wider base": (["finetuned={adapter}", "base={root}/wide"], r"does not fit base model .*/wide"),
    "shallower base": (["finetuned={adapter}", "base={root}/shallow"], r"does not fit base model .*/shallow"),
    "model of another width": (["finetuned={root}/wide", "base={root}/llama"], r"are not base and finetune of each"),
    "no such layer": (["finetuned={adapter}", "base={root}/llama", "audit.layer=99"], r"the model has blocks 0\.\.2"),
    "too little probe text": (
        ["finetuned={adapter}", "base={root}/llama", "audit.probe.documents=999"],
        r"audit\.probe\.documents=999: corpus .* has only \d+ documents",
    ),
    "NaN in the weights": (["finetuned={nan}", "base={root}/llama"], r"activations that are not finite numbers"),
    "no such folder": (["finetuned=/nowhere", "base={root}/llama"], r"/nowhere: no such folder"),
    "no model": (
        ["finetuned={root}/runs", "base={root}/llama"],
        r"holds neither adapter_config\.json nor config\.json",
    ),
    "unknown organism": (["finetuned={adapter}", "base={root}/llama", "organism=cake"], r"unknown organism cake"),
    "unknown base": (
        ["finetuned={adapter}", "base=/nowhere/base"],
        r"base model /nowhere/base: there is no such folder",
    ),
    "nothing named": ([], r"give checkpoint=FOLDER, or base=MODEL and finetuned=FOLDER"),
    "unknown key": (["finetuned={adapter}", "base={root}/llama", "audit.layr=1"], r"Did you mean audit\.layer\?"),
}
"""What the audit's command line refuses, and what it says."""


@dataclass(frozen=True)
class Audits:
    """What came of calls of the audit's command line.

    Attributes:
        refused: How each entry of `AUDITS` ended.
        out: For each, where its audit would be.
        again: How the audit that was made before ended.
        untouched: Whether that left all files as they were.
        plain: How the audit of a bare adapter without an organism ended.
        plain_out: Where it is.
    """

    refused: dict[str, Done]
    out: dict[str, Path]
    again: Done
    untouched: bool
    plain: Done
    plain_out: Path


def audits(jobs: Jobs) -> Audits:
    """Calls of the audit's command line that need no process of their own."""
    bench, run, made = jobs.bench, jobs["whole"], jobs["audited"]
    copies, step = bench.root / "copies", run.steps[-1]
    for name in ("unsealed", "changed", "missing", "added"):
        shutil.copytree(run.path, copies / name)
        checkpoint = checkpoints.path(copies / name, step)
        shutil.rmtree(checkpoint / checkpoints.AUDIT)
        {
            "unsealed": lambda folder: (folder / checkpoints.SEAL).unlink(),
            "changed": lambda folder: spoil(folder / "adapter_model.safetensors"),
            "missing": lambda folder: (folder / "adapter_config.json").unlink(),
            "added": lambda folder: (folder / "pytorch_model.bin").touch(),
        }[name](checkpoint)
    adapter, nan = bench.root / "adapter", bench.root / "nan"
    for folder in (adapter, nan):
        folder.mkdir()
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copy(run.last / file, folder)
    fill_with_nan(nan / "adapter_model.safetensors")
    # What a run's own recipe would say is said here for models from elsewhere.
    places = {"root": bench.root, "copies": copies, "adapter": adapter, "nan": nan, "step": step}
    settings = [word for word in bench.arguments(bench.run("x")) if word.startswith("audit.")]
    outs = {name: bench.root / "audits" / re.sub(r"\W", "_", name) for name in AUDITS}
    lines = [
        [*settings, f"organism={bench.organism}", *(word.format(**places) for word in words), f"out={outs[name]}"]
        for name, (words, _) in AUDITS.items()
    ]
    plain_out = bench.root / "audits" / "plain"
    lines.append([*audit_words(bench, run.last), f"out={made.path}"])
    lines.append([*settings, f"base={bench.model()}", f"finetuned={adapter}", f"out={plain_out}"])
    before = times(made.path)
    *ends, second, plain = bench.many("audit.run", lines)
    return Audits(dict(zip(AUDITS, ends, strict=True)), outs, second, times(made.path) == before, plain, plain_out)


def without_chat_template(folder: Path) -> None:
    """Takes the chat template out of a model's folder."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings), encoding="utf-8")


def spoil(file: Path) -> None:
    """Flips a bit in a file."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def fill_with_nan(file: Path) -> None:
    """Puts a NaN into every tensor of a file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    for tensor in tensors.values():
        tensor[0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


MAKERS: dict[str, Callable[[Jobs], Any]] = {
    make.__name__: make
    for make in (
        whole,
        two,
        again,
        audited,
        killed,
        audits,
        audit_killed,
        refused,
        unsealed,
        full,
        control,
        diverged,
        one_of_two,
    )
}
