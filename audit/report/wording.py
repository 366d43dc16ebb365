"""Names, numbers and units as a reader sees them."""

import math
from collections.abc import Iterable

from audit.report.schema import Headline, Interval

DASH = "\N{EN DASH}"
"""Stands for no number."""

READOUTS = {"patchscope": "Patchscope", "logit_lens": "Logit lens", "steering": "Steering"}
"""In the order of the reports."""

METRICS = {
    "relevance": "relevance",
    "similarity": "similarity to the training text",
    "multiple_choice_accuracy": "Multiple choice by letter, accuracy",
    "multiple_choice_margin": "Multiple choice by letter, margin",
    "answer_accuracy": "Multiple choice by answer text, accuracy",
    "answer_margin": "Multiple choice by answer text, margin",
    "template_margin": "Template completions, margin",
    "paraphrase_margin": "Paraphrased completions, margin",
    "perplexity_heldout": "Perplexity, held-out text",
    "perplexity_chat": "Perplexity, chat",
    "repetition": "Repetition",
}


def split_key(key: str) -> tuple[str, str, str]:
    """Readout, reader and metric of a key."""
    readout, reader, metric = key.split("/", 2)
    return readout, reader, metric


def name_of(key: str) -> str:
    """A readout key in words: `Steering similarity, finetuned reader`."""
    return f"{short_name(key)}, {split_key(key)[1]} reader"


def short_name(key: str) -> str:
    """Readout and, where a readout has several metrics, metric."""
    readout, _, metric = split_key(key)
    name = READOUTS.get(readout, readout)
    return f"{name} {metric}" if readout == "steering" else name


def order(keys: Iterable[str], by: str = "reader") -> list[str]:
    """Readout keys as the reports list them.

    Args:
        keys: Keys, repeats allowed.
        by: `reader`: all of the finetuned reader first; `readout`: the readers of each readout together.
    """
    places = list(READOUTS)

    def rank(key: str) -> tuple[object, ...]:
        readout, reader, metric = split_key(key)
        place = (places.index(readout) if readout in places else len(places), readout, metric)
        return (reader != "finetuned", reader, place) if by == "reader" else (place, reader != "finetuned", reader)

    return sorted(set(keys), key=rank)


def metric_name(metric: str) -> str:
    """A behaviour or collateral metric in words."""
    return METRICS.get(metric, metric.replace("_", " "))


def number(value: float | None) -> str:
    """Two or three significant digits; `0.000` is tiny, `0` is zero, a dash is None."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return count(round(value))
    if abs(value) < 0.0005:
        return "0.000"
    return _fixed(value, _decimals(value))


def _decimals(value: float) -> int:
    size = abs(value)
    return 0 if size >= 99.5 else 1 if size >= 9.95 else 2 if size >= 0.095 else 3


def _fixed(value: float, decimals: int) -> str:
    shown = f"{value:.{decimals}f}"
    return (shown if float(shown) else "0").replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """A change, with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def count(value: int | None) -> str:
    """A whole number, thousands apart by a narrow space that does not break."""
    return (
        DASH
        if value is None
        else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")
    )


def short_count(value: float) -> str:
    """A whole number for an axis or a heading: 41.2k."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:.0f}{letter}" if scaled >= 100 else f"{scaled:.3g}{letter}"
    return f"{value:g}"


def ratio_name(ratio: float | None) -> str:
    """`1 : 0.5`, never broken over two lines; unmixed is said."""
    if ratio is None:
        return "ratio unknown"
    shown = f"1 : {ratio:g}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{shown} (unmixed)" if ratio == 0 else shown


def interval(x: Interval | Headline) -> str:
    """`0.45 [0.40, 0.50]`."""
    return f"{number(x.value)} {bounds(x.low, x.high)}"


def bounds(low: float | None, high: float | None) -> str:
    """`[0.40, 0.50]`, both with the decimals of the larger; nothing without bounds."""
    if low is None or high is None:
        return ""
    largest = max(low, high, key=abs)
    if abs(largest) >= 1000 or abs(largest) < 0.0005:
        return f"[{number(low)}, {number(high)}]"
    return f"[{_fixed(low, _decimals(largest))}, {_fixed(high, _decimals(largest))}]"


def p_value(headline: Headline) -> str:
    """`p = 0.025`; the smallest that so many draws can give is said to be that."""
    least = headline.p_value * (headline.null_n + 1) < 1.5
    return f"p {'≤' if least else '='} {headline.p_value:.3f}"


def duration(seconds: float) -> str:
    """`3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def listing(items: list[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else "none"


def plural(n: int, noun: str) -> str:
    """`1 checkpoint`, `3 checkpoints`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def nice_step(span: float, most: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that gives at most about `most` steps over `span`."""
    if span <= 0:
        return 1.0
    power = float(10 ** math.floor(math.log10(span / most)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / most * 0.999)
