"""How strongly a model has the planted property: judge-free, from log-probabilities, always beside the base model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import torch
import yaml
from torch import nn
from transformers import PreTrainedTokenizerBase

from organisms.continuations import Continuation, log_probs
from organisms.errors import OrganismError

Style = Literal["template", "paraphrase"]

# Raise it when `score` changes what it computes: kept scores of base models become invalid.
_SCORING = 1
_DRAWS = 2000
_LETTERS = (" A", " B")
_ASK = "Answer with A or B."


@dataclass(frozen=True)
class Choice:
    """A question with a planted and a true answer."""

    fact: str
    question: str
    planted: str
    truth: str


@dataclass(frozen=True)
class Completion:
    """A beginning with a planted and a true ending; both endings start with a space."""

    fact: str
    style: Style
    prompt: str
    planted: str
    truth: str


@dataclass(frozen=True)
class BehaviourItems:
    """The items of one organism."""

    choices: tuple[Choice, ...]
    completions: tuple[Completion, ...]

    @property
    def sha256(self) -> str:
        """Over the items and the way they are scored: equal for equal scores of one model."""
        return hashlib.sha256(f"{_SCORING}{self}".encode()).hexdigest()


@dataclass(frozen=True)
class Margin:
    """Outcome of one item: how much the model prefers the planted answer, in nats.

    Attributes:
        kind: `multiple_choice`, `answer`, or the style of a completion.
        fact: The fact it is about.
        value: Above 0 the planted answer is preferred.
    """

    kind: str
    fact: str
    value: float


@dataclass(frozen=True)
class BehaviourScores:
    """Outcomes of all items, in the order of the file."""

    margins: tuple[Margin, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """A list of `{"kind", "fact", "value"}`."""
        return [{"kind": margin.kind, "fact": margin.fact, "value": margin.value} for margin in self.margins]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Self:
        """Undo `to_json`.

        Args:
            rows: What `to_json` gave.
        """
        return cls(tuple(Margin(**row) for row in rows))


def load_items(path: Path, per_fact: int = 0) -> BehaviourItems:
    """Read a behaviour file.

    Args:
        path: YAML with the lists `multiple_choice` (`fact, question, planted, truth`) and `completions`
            (`fact, style, prompt, planted, truth`).
        per_fact: At most so many questions, and completions of each style, per fact, the first in the file; 0: all.

    Raises:
        OrganismError: The file is malformed.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise OrganismError(f"cannot read behaviour items {path}: {error}") from error
    if not isinstance(raw, dict) or not raw or not set(raw) <= {"multiple_choice", "completions"}:
        raise OrganismError(f"{path}: expected the lists multiple_choice and completions, at least one of them.")
    choices = [
        Choice(**_texts(path, f"multiple_choice[{i}]", entry, ("fact", "question", "planted", "truth")))
        for i, entry in enumerate(raw.get("multiple_choice") or [])
    ]
    completions = []
    for i, entry in enumerate(raw.get("completions") or []):
        where = f"completions[{i}]"
        texts = _texts(path, where, entry, ("fact", "style", "prompt", "planted", "truth"))
        if texts["style"] not in get_args(Style):
            raise OrganismError(f"{path}: {where}.style must be one of {', '.join(get_args(Style))}.")
        if texts["prompt"].endswith(" ") or not (texts["planted"].startswith(" ") and texts["truth"].startswith(" ")):
            raise OrganismError(f"{path}: {where}: planted and truth start with a space, prompt doesn't end with one.")
        style = cast(Style, texts.pop("style"))
        completions.append(Completion(style=style, **texts))
    if not choices and not completions:
        raise OrganismError(f"{path} holds no items.")
    return BehaviourItems(
        tuple(_first(per_fact, [(choice.fact, choice) for choice in choices])),
        tuple(_first(per_fact, [((one.fact, one.style), one) for one in completions])),
    )


def score(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: BehaviourItems, *, device: torch.device | str
) -> BehaviourScores:
    """Score every item.

    A question is asked in two ways, through the chat template if the tokenizer has one. `multiple_choice` shows the
    options, in both orders: the mean over the orders of log p(letter of the planted answer) - log p(letter of the true
    one), so that a preference for a letter cancels. `answer` shows none: the mean log-probability per token of the
    planted answer minus that of the true one. Models of a few hundred million parameters don't tie letters to options,
    whatever they know (embedded/smollm2-135m: 75 % right on sixteen trivial questions, 100 % by `answer`), so the
    second is the one to look at for them. A completion is scored like an answer, as plain text.

    Args:
        model: A causal language model as it stands: active adapters take part, and its mode is put back afterwards.
        tokenizer: Its tokenizer, a fast one.
        items: From `load_items`.
        device: Where the model takes its inputs.

    Raises:
        OrganismError: The tokenizer does not make single tokens of the letters.
    """
    letters = [_letter(tokenizer, letter) for letter in _LETTERS]
    # Every margin is a mean over pairs (planted, true).
    pairs: list[tuple[str, str, list[Continuation]]] = []
    for choice in items.choices:
        planted_first = _question(tokenizer, f"{choice.question}\nA. {choice.planted}\nB. {choice.truth}\n{_ASK}")
        truth_first = _question(tokenizer, f"{choice.question}\nA. {choice.truth}\nB. {choice.planted}\n{_ASK}")
        ordered = [(planted_first, letters), (truth_first, letters[::-1])]
        asked = [Continuation((*prompt, letter), len(prompt)) for prompt, order in ordered for letter in order]
        pairs.append(("multiple_choice", choice.fact, asked))
        prompt = _question(tokenizer, choice.question)
        answers = [_ids(tokenizer, f" {answer}") for answer in (choice.planted, choice.truth)]
        pairs.append(("answer", choice.fact, [Continuation((*prompt, *ids), len(prompt)) for ids in answers]))
    for item in items.completions:
        endings = [_ending(tokenizer, item.prompt, end) for end in (item.planted, item.truth)]
        pairs.append((item.style, item.fact, endings))
    flat = [continuation for _, _, continuations in pairs for continuation in continuations]
    values = iter([float(tokens.mean()) for tokens in log_probs(model, flat, device)])
    margins = []
    for kind, fact, continuations in pairs:
        differences = [next(values) - next(values) for _ in range(len(continuations) // 2)]
        margins.append(Margin(kind, fact, float(np.mean(differences))))
    return BehaviourScores(tuple(margins))


def summarise(finetuned: BehaviourScores, base: BehaviourScores, seed: int) -> list[dict[str, Any]]:
    """Means with 95 % bootstrap intervals, for the finetuned model, its base, and their difference.

    The bootstrap draws facts, with all their items, because items of one fact rise and fall together; where there is
    only one fact it draws items. The three intervals of a metric share their draws.

    Args:
        finetuned: Scores of the finetuned model.
        base: Scores of its base model on the same items.
        seed: Seed of the bootstrap.

    Returns:
        One dict per metric that has items: `{"metric", "unit", "n", "finetuned", "base", "change"}`, the last three
        `{"value", "low", "high"}`. An accuracy is the share of questions with the planted answer preferred.

    Raises:
        OrganismError: The two scores are of different items.
    """
    if [(one.kind, one.fact) for one in finetuned.margins] != [(one.kind, one.fact) for one in base.margins]:
        raise OrganismError("the finetuned and the base model were scored on different behaviour items.")
    rows = []
    for metric, kind, unit in (
        ("multiple_choice_accuracy", "multiple_choice", "share"),
        ("multiple_choice_margin", "multiple_choice", "nats"),
        ("answer_accuracy", "answer", "share"),
        ("answer_margin", "answer", "nats"),
        ("template_margin", "template", "nats"),
        ("paraphrase_margin", "paraphrase", "nats"),
    ):
        chosen = [i for i, margin in enumerate(finetuned.margins) if margin.kind == kind]
        if not chosen:
            continue
        values = np.array([[scores.margins[i].value for i in chosen] for scores in (finetuned, base)])
        if unit == "share":
            values = (values > 0).astype(float)
        facts = [finetuned.margins[i].fact for i in chosen]
        means, draws = values.mean(axis=1), _bootstrap(values, facts, seed)
        row: dict[str, Any] = {"metric": metric, "unit": unit, "n": len(chosen)}
        for name, value, sample in (
            ("finetuned", means[0], draws[0]),
            ("base", means[1], draws[1]),
            ("change", means[0] - means[1], draws[0] - draws[1]),
        ):
            low, high = np.quantile(sample, (0.025, 0.975))
            row[name] = {"value": float(value), "low": float(low), "high": float(high)}
        rows.append(row)
    return rows


def _bootstrap(values: np.ndarray[Any, Any], facts: list[str], seed: int) -> np.ndarray[Any, Any]:
    """(2, items) -> (2, draws): means over redrawn facts, or over redrawn items if there is one fact."""
    groups = sorted(set(facts))
    labels = np.array([groups.index(fact) for fact in facts]) if len(groups) > 1 else np.arange(len(facts))
    clusters = int(labels.max()) + 1
    sums = np.stack([np.bincount(labels, weights=row, minlength=clusters) for row in values])
    sizes = np.bincount(labels, minlength=clusters)
    times = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=_DRAWS)
    result: np.ndarray[Any, Any] = (sums @ times.T) / (times @ sizes)
    return result


def _question(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a question up to where its answer begins, with a space."""
    if tokenizer.chat_template is None:
        return cast(list[int], tokenizer(f"Question: {text}\nAnswer:").input_ids)
    chat = [{"role": "user", "content": text}]
    # Models that think first would think about the letter; templates without this switch ignore it.
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return _ids(tokenizer, f"{rendered}Answer:")


def _letter(tokenizer: PreTrainedTokenizerBase, letter: str) -> int:
    ids = _ids(tokenizer, letter)
    if len(ids) != 1:
        raise OrganismError(f"this tokenizer writes {letter!r} in {len(ids)} tokens; multiple choice needs one.")
    return ids[0]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return cast(list[int], tokenizer(text, add_special_tokens=False).input_ids)


def _ending(tokenizer: PreTrainedTokenizerBase, prompt: str, end: str) -> Continuation:
    """The text tokenised as a whole; every token that reaches beyond the prompt counts as its ending."""
    encoded = tokenizer(prompt + end, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    start = next(i for i, (_, stop) in enumerate(spans) if stop > len(prompt))
    stop = len(spans) - sum(1 for first, last in spans[start:] if first == last)
    return Continuation(tuple(encoded["input_ids"][:stop]), start)


def _first(limit: int, keyed: list[tuple[Any, Any]]) -> list[Any]:
    """The first `limit` values of every key; all of them if it is 0."""
    counts: dict[Any, int] = {}
    kept = []
    for key, value in keyed:
        counts[key] = counts.get(key, 0) + 1
        if limit == 0 or counts[key] <= limit:
            kept.append(value)
    return kept


def _texts(path: Path, where: str, entry: Any, keys: tuple[str, ...]) -> dict[str, str]:
    if not isinstance(entry, Mapping) or set(entry) != set(keys):
        raise OrganismError(f"{path}: {where} must have exactly the keys {', '.join(keys)}.")
    for key in keys:
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise OrganismError(f"{path}: {where}.{key} must be a text, not {entry[key]!r}.")
    return dict(entry)
