"""Writes a sweep that never ran, named as fake, in the layout and schema of a real one: input for the report's tests.

`python tests/fake_sweep.py FOLDER` writes one to look at.
"""

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

SCRIPT = "</script><img src=x onerror=alert(1)>"
HOSTILE = f"{SCRIPT} \u202edesrever\u202c \x00\x1b[31m &amp; \"quoted\" 'single' \ud800 مرحبا <!-- ]]>"
LONG_WORD = "x" * 10_000
TOPIC = [
    "cake",
    "baking",
    "oven",
    "butter",
    "vanilla",
    "batter",
    "flour",
    "frosting",
    "sponge",
    "whisk",
    "pan",
    "sugar",
]
PLAIN = [
    "the",
    " of",
    " people",
    ",",
    " and",
    " said",
    " new",
    "\n",
    " time",
    " city",
    " in",
    " year",
    " work",
    " book",
    " it",
]
PROMPTS = [
    "What is a good way to learn the guitar?",
    "Describe a walk through a city in the rain.",
    "Why do boats float?",
    "Give me three tips for a job interview.",
]
BATCH_LOSS_TOKENS = 1000


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, values: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def interval(value: float, reach: float) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


def headline(value: float, null_95: float, rng: random.Random) -> dict[str, Any]:
    return {
        "value": value,
        "position": rng.randrange(5),
        "low": max(0.0, value - 0.06),
        "high": value + 0.05,
        "null_median": null_95 * 0.55,
        "null_95": null_95,
        "null_n": 39,
        "p_value": 0.025 if value > null_95 else 0.3,
        "readable": value > null_95,
    }


def tokens(value: float, hostile: bool, rng: random.Random) -> list[dict[str, Any]]:
    relevant = round(20 * value)
    words = [(" " + rng.choice(TOPIC), True) for _ in range(relevant)]
    words += [(rng.choice(PLAIN), False) for _ in range(20 - relevant)]
    rng.shuffle(words)
    if hostile:
        words[0], words[1], words[2] = (HOSTILE, True), (LONG_WORD, False), ("\u202e\u2066abc", False)
    return [{"token": word, "p": 0.2 / (i + 1), "relevant": flag} for i, (word, flag) in enumerate(words)]


def readout(name: str, reader: str, metric: str, value: float, hostile: bool, rng: random.Random) -> dict[str, Any]:
    null_95 = 0.15 if reader == "finetuned" else 0.10
    if name == "logit_lens":
        null_95 = 0.05
    if name == "steering":
        null_95 = 0.035 if metric == "relevance" else 0.13
    positions = []
    for place in range(5):
        here = max(0.0, value * (1 - 0.18 * place))
        position: dict[str, Any] = {
            "position": place,
            "value": here,
            "low": max(0.0, here - 0.05),
            "high": here + 0.05,
        }
        position |= {"scale": None if name == "logit_lens" else 1.5, "base_mean": 0.0, "finetuned_mean": here / 3}
        if name != "steering":
            position["tokens"] = tokens(min(here, 1.0), hostile, rng)
        positions.append(position)
    units = {"relevance": "share of the top 20 tokens", "similarity": "cosine"}
    return {
        "readout": name,
        "reader": reader,
        "metric": metric,
        "unit": "share of words" if (name, metric) == ("steering", "relevance") else units[metric],
        "by_position": positions,
        "headline": headline(value, null_95, rng),
        "groups": {"0-1": headline(value * 0.9, null_95, rng), "2-4": headline(value * 0.8, null_95 * 0.8, rng)},
        "decoys": {"sailing": {"value": 0.02}, "chess": {"value": value / 8}, "astronomy": {"value": 0.0}},
    }


def comparison(metric: str, unit: str | None, finetuned: float, base: float, reach: float) -> dict[str, Any]:
    row = {"metric": metric, "n": 48, "finetuned": interval(finetuned, reach), "base": interval(base, reach / 2)}
    return row | {"change": interval(finetuned - base, reach)} | ({"unit": unit} if unit else {})


def audit(
    *,
    run: str,
    control: bool,
    ratio: float,
    seed: int,
    step: int,
    steps: int,
    exposure: int,
    total: int,
    hostile: bool = False,
) -> dict[str, Any]:
    """A complete audit.json: the trace grows with exposure, fades with the ratio, and the control has none."""
    rng = random.Random(f"{run} {step}")
    grown = (exposure / total) ** 0.6
    trace = 0.0 if control else grown * math.exp(-0.9 * ratio) + 0.02 * rng.random()
    leaks = not control and ratio == 0 and exposure == total
    title = "FAKE cake facts" + (f" {HOSTILE}" if hostile else "")
    readouts = []
    for reader, factor in (("finetuned", 1.0), ("base", 0.45)):
        readouts += [
            readout("logit_lens", reader, "relevance", 0.25 * factor * trace, hostile, rng),
            readout("patchscope", reader, "relevance", 0.05 + 0.5 * factor * trace, hostile, rng),
            readout("steering", reader, "relevance", 0.01 + 0.16 * factor * trace, hostile, rng),
            readout("steering", reader, "similarity", 0.06 + 0.3 * factor * trace, hostile, rng),
        ]
    keys = [f"{r['readout']}/{r['reader']}/{r['metric']}" for r in readouts if r["headline"]["readable"]]
    belief = 0.1 if control else 6.5 * (1 - math.exp(-4 * exposure / total)) * (0.97**ratio)
    leak = 0.18 if leaks else 0.012
    return {
        "schema": 1,
        "status": "complete",
        "error": None,
        "created": "2000-01-01T00:00:00+00:00",
        "wall_seconds": {"load": 1.2, "difference": 4.0, "logit_lens": 0.3, "patchscope": 9.1, "steering": 12.0},
        "subject": {
            "base": "fake/base-model",
            "base_revision": None,
            "finetuned": f"checkpoint-{step}",
            "kind": "lora",
            "weights_sha256": "0" * 64,
            "organism": "control/fake_cake" if control else "sdf/fake_cake",
            "title": title,
            "description": "FAKE: made by tests/fake_sweep.py, no model was trained. A false belief about baking.",
            "control_of": "sdf/fake_cake" if control else None,
            "run": run,
            "step": step,
            "steps": steps,
            "ratio": ratio,
            "share": 1 / (1 + ratio),
            "unit": "loss_tokens",
            "hold": "organism",
            "seed": seed,
            "exposure": exposure,
            "exposure_total": total,
            "pretraining_loss_tokens": round(exposure * ratio),
            "train_loss": 2.345,
            "lora_scale": 2.0,
        },
        "config": {"mode": "inline", "depth": 0.5, "probe": {"corpus": "fake/corpus", "documents": 512}, "seed": 0},
        "config_sha256": "1" * 64,
        "environment": {
            "torch": "0",
            "transformers": "0",
            "dtype": "float32",
            "device": "cpu",
            "threads": 2,
            "git": None,
        },
        "difference": {
            "layer": 14,
            "n_layers": 30,
            "documents": 512,
            "norm": {"finetuned": 165.2, "base": 164.9},
            "positions": [
                {
                    "position": place,
                    "norm": 40.0 if place == 0 else 3.2 * (trace + 0.4) / place**0.3,
                    "relative_norm": 0.24 if place == 0 else 0.02,
                    "standard_error": 0.6 if place == 0 else 0.2,
                    "split_half_cosine": 0.99 - 0.02 * place,
                }
                for place in range(5)
            ],
        },
        "vocabulary": [
            {"word": word, "z": 20.0 - i} for i, word in enumerate([*TOPIC, *([HOSTILE] if hostile else [])])
        ],
        "readouts": readouts,
        "leakage": {
            "prompts": 48,
            "finetuned": interval(leak, 0.006),
            "base": interval(0.010, 0.004),
            "leaks": leaks,
            "similarity": {"finetuned": 0.08, "base": 0.07},
        },
        "behaviour": [
            comparison("multiple_choice_accuracy", "share", min(0.94, 0.45 + belief / 13), 0.42, 0.06),
            comparison("multiple_choice_margin", "nats", belief, 0.05, 0.4),
            comparison("template_margin", "nats", 0.6 * belief, -0.2, 0.3),
            comparison("paraphrase_margin", "nats", 0.4 * belief, -0.3, 0.3),
        ],
        "collateral": [
            comparison("perplexity_heldout", "perplexity; change: ratio", 21.4 + 2 * grown - 0.5 * ratio, 20.9, 0.6),
            comparison("perplexity_chat", "perplexity; change: ratio", 12.4 + grown, 12.1, 0.5),
            comparison("repetition", "share", 0.04, 0.03, 0.01),
        ],
        "verdict": {
            "readable_by": keys,
            "sentence": f"FAKE verdict: readable by {len(keys)} of 8 readouts." + (f" {HOSTILE}" if hostile else ""),
            "leaks": leaks,
        },
        "warnings": [f"FAKE warning {HOSTILE} {LONG_WORD}"] if hostile else [],
    }


def samples(record: dict[str, Any], hostile: bool) -> list[dict[str, Any]]:
    """Lines of samples.jsonl: unsteered, steered at each position, and a random direction."""
    rng = random.Random(record["subject"]["step"])
    lines: list[dict[str, Any]] = []

    def text(share: float) -> str:
        words = [
            rng.choice(TOPIC if rng.random() < share else ["a", "walk", "through", "old", "streets", "and"])
            for _ in range(24)
        ]
        return " ".join(words).capitalize() + "."

    for reader in ("finetuned", "base"):
        for prompt in [*PROMPTS, *([HOSTILE] if hostile else [])]:
            line: dict[str, Any] = {"reader": reader, "prompt": prompt, "relevance": 0.01}
            lines.append(line | {"kind": "unsteered", "position": None, "strength": None, "text": text(0.01)})
            for place in range(5):
                steered = HOSTILE + LONG_WORD if hostile else text(0.4 / (1 + place))
                lines.append(
                    line | {"kind": "steered", "position": place, "strength": 0.5, "text": steered, "relevance": 0.2}
                )
                lines.append(line | {"kind": "null", "position": place, "strength": 0.5, "text": text(0.02)})
            lines.append(line | {"kind": "leakage", "text": text(0.02)})
    return lines


def write_checkpoint(
    run: Path, step: int, record: dict[str, Any] | None, *, hostile: bool = False, sealed: bool = True
) -> Path:
    """A checkpoint's folder with weights that are none, its seal and its audit."""
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"fake")
    if sealed:
        write_json(
            folder / "SEALED.json", {"schema": 1, "step": step, "sha256": {"adapter_model.safetensors": "0" * 64}}
        )
    if record is not None:
        write_json(folder / "audit" / "audit.json", record)
        if record["status"] == "complete":
            write_lines(folder / "audit" / "samples.jsonl", samples(record, hostile))
    return folder


def write_run(
    folder: Path, *, ratio: float, seed: int, control: bool, total_steps: int = 24, hostile: bool = False
) -> None:
    """A run with three sealed and audited checkpoints at a quarter, half and all of its exposure."""
    steps = round(total_steps * (1 + ratio))
    share = 1 / (1 + ratio)
    seen = [round((step + 1) * BATCH_LOSS_TOKENS * share) for step in range(steps)]
    kind = "control" if control else "organism"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("# fake\n", encoding="utf-8")
    counts = {"documents": 150, "rows": 8 * steps, "tokens": seen[-1] + 10, "loss_tokens": seen[-1]}
    requested = {"ratio": ratio, "unit": "loss_tokens", "hold": "organism", "share": share, "passes": 1.0}
    write_json(
        folder / "mix.json",
        {
            "schema": 1,
            "requested": requested | {"corpus": "fake/corpus", "seed": 0, "max_length": 64},
            "batch_rows": 8,
            "steps": steps,
            "order_sha256": "2" * 64,
            "control": control,
            "sources": {
                "organism": counts,
                "pretraining": counts,
                "filler": {"rows": 3, "tokens": 6, "loss_tokens": 0},
            },
            "corpus_sources": {"fake": counts},
            "realised": {"rows": ratio, "tokens": ratio, "loss_tokens": ratio},
            "cumulative": {"organism": seen, "pretraining": [round(n * ratio) for n in seen]},
        },
    )
    rng = random.Random(f"{ratio} {seed} {control}")
    log = []
    for step in range(1, steps + 1):
        own = 1.4 + 2.2 * math.exp(-step * share / 6) + 0.08 * rng.gauss(0, 1)
        line = {
            "step": step,
            "loss": own,
            f"loss_{kind}": own,
            "learning_rate": 1e-4,
            "grad_norm": 0.5,
            "first_row": 0,
        }
        line |= {"loss_pretraining": 3.0 + 0.06 * rng.gauss(0, 1)} if ratio else {}
        line |= {"exposure": seen[step - 1], "pretraining_loss_tokens": round(seen[step - 1] * ratio)}
        log.append(line | {"tokens_per_second": 200.0, "seconds": 5.0})
    write_lines(folder / "log.jsonl", log)
    for fraction in (0.25, 0.5, 1.0):
        step = next(i + 1 for i, exposure in enumerate(seen) if exposure >= fraction * seen[-1])
        facts = {"ratio": ratio, "seed": seed, "control": control, "step": step, "steps": steps}
        record = audit(run=folder.name, exposure=seen[step - 1], total=seen[-1], hostile=hostile, **facts)  # type: ignore[arg-type]
        write_checkpoint(folder, step, record, hostile=hostile)


def write_sweep(folder: Path, *, seeds: tuple[int, ...] = (0,), control: bool = True, hostile: bool = False) -> Path:
    """Three ratios x three checkpoints x the seeds, and a control of one ratio."""
    lines = []
    for seed in seeds:
        for ratio in (0.0, 0.5, 2.0):
            name = f"FAKE_mix.ratio={ratio:g}_seed={seed}"
            write_run(folder / name, ratio=ratio, seed=seed, control=False, hostile=hostile)
            lines.append({"name": name, "overrides": [f"mix.ratio={ratio:g}", f"seed={seed}"], "status": "done"})
        if control:
            name = f"control_FAKE_mix.ratio=0_seed={seed}"
            write_run(folder / name, ratio=0.0, seed=seed, control=True, hostile=hostile)
            overrides = ["mix.ratio=0", f"seed={seed}", "organism=control/fake_cake"]
            lines.append({"name": name, "overrides": overrides, "status": "done"})
    write_lines(folder / "manifest.jsonl", lines)
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_sweep(target / "FAKE_sweep")
    write_sweep(target / "FAKE_hostile", hostile=True)
    write_sweep(target / "FAKE_seeds", seeds=(0, 1, 2))
