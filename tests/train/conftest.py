"""Whole runs of train/sft.py on a tiny random model with a real tokenizer and the embedded corpus."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.train.bench import Bench, Jobs, make_bench
from tests.train.jobs import MAKERS

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

SETTINGS = [
    "recipe=smollm2-135m/cake_bake_lora",
    "mix.ratio=0.5",
    "mix.passes=0.03",
    "mix.max_length=64",
    "trainer.per_device_train_batch_size=4",
    "trainer.learning_rate=1e-3",
    "lora.r=4",
    "audit.probe.documents=32",
    "audit.probe.norm_documents=4",
    "audit.probe.heldout_documents=4",
    "audit.probe.heldout_length=16",
    "audit.bootstrap=4",
    "audit.random_directions=19",
    "audit.patchscope.scales=[1.0]",
    "audit.steering.positions=[1]",
    "audit.steering.prompts=2",
    "audit.steering.new_tokens=3",
    "audit.steering.random_directions=19",
    "audit.steering.style=text",
    "audit.steering.strengths=[0.3]",
    "audit.behaviour.per_fact=1",
]


def save_tiny(folder: Path, model_type: str) -> Path:
    """A random model of 3 narrow blocks with SmolLM2's tokenizer, as a local model folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from organisms.base_models import load_tokenizer

    tokenizer = load_tokenizer("embedded/smollm2-135m")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session")
def arguments(tiny_model: Path) -> Callable[..., list[str]]:
    """Command line of a run in a folder."""

    def make(run: Path, *more: str) -> list[str]:
        return [*SETTINGS, f"base_model={tiny_model}", f"output_dir={run.parent}", f"name={run.name}", *more]

    return make


def sft(
    arguments: Sequence[str], *, launcher: Sequence[str] = (sys.executable,), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs train/sft.py to its end."""
    command = [*launcher, str(REPOSITORY / "train" / "sft.py"), *arguments]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False, **options
    )


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts train/sft.py."""
    command = [sys.executable, str(REPOSITORY / "train" / "sft.py"), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Polls until a condition holds while a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "the run did not get there"
        time.sleep(0.005)


def log(run: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def audit_numbers(checkpoint: Path) -> dict[str, Any]:
    """audit.json without what depends on the clock or the place."""
    audit = json.loads((checkpoint / "audit" / "audit.json").read_text())
    return {
        key: audit[key]
        for key in ("difference", "readouts", "leakage", "behaviour", "collateral", "verdict", "vocabulary")
    }


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def jobs(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Jobs]:
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    made = Jobs(bench, MAKERS, wanted)
    yield made
    made.close()


def _job(name: str) -> Any:
    @pytest.fixture(scope="session", name=name)
    def result(jobs: Jobs) -> Any:
        return jobs[name]

    return result


# A test that takes an argument named like a job gets its result: `whole`, `killed`, ...
globals().update({name: _job(name) for name in MAKERS})
