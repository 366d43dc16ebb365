"""From scores of a difference and of its null to a readability: value, interval, p-value, verdict.

A score is taken per position; a readability is the maximum over positions, and so is every draw of its null (the same
maximum over as many random directions), or noise would look readable.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

LEVEL = 0.05


@dataclass(frozen=True)
class Readability:
    """One headline number.

    Attributes:
        value: Maximum over the positions of the group.
        position: Where it is.
        low: 2.5 % bound, the same maximum on bootstrap replicates.
        high: 97.5 % bound.
        null_median: Median of the null.
        null_95: 95th percentile of the null.
        null_n: Draws of the null.
        p_value: (1 + draws that reach the value) / (1 + draws).
        readable: Whether the value beats the null's 95th percentile with a p-value of at most 0.05.
    """

    value: float
    position: int
    low: float
    high: float
    null_median: float
    null_95: float
    null_n: int
    p_value: float
    readable: bool


def readability(positions: Sequence[int], scores: Scores, replicates: Scores, null: Scores) -> Readability:
    """Readability over a group of positions.

    Args:
        positions: Token positions of the group.
        scores: One score per position, (positions,).
        replicates: The same on bootstrap replicates, (replicates, positions).
        null: The same on draws of the null, (draws, positions).
    """
    value = float(scores.max())
    draws = null.max(1)
    peaks = replicates.max(1)
    p_value = (1 + int((draws >= value).sum())) / (1 + len(draws))
    null_95 = float(np.quantile(draws, 0.95, method="higher"))
    return Readability(
        value=value,
        position=int(positions[int(scores.argmax())]),
        low=float(min(value, np.quantile(peaks, 0.025))),
        high=float(max(value, np.quantile(peaks, 0.975))),
        null_median=float(np.median(draws)),
        null_95=null_95,
        null_n=len(draws),
        p_value=p_value,
        readable=value > null_95 and p_value <= LEVEL,
    )


def grouped(positions: Sequence[int], scores: Scores, replicates: Scores, null: Scores) -> dict[str, Any]:
    """Headline over all positions, and apart for positions 0-1 (first tokens, where the attention sink is) and later."""
    result: dict[str, Any] = {"headline": asdict(readability(positions, scores, replicates, null)), "groups": {}}
    for name, members in (("0-1", [p for p in positions if p < 2]), ("2-4", [p for p in positions if 2 <= p < 5])):
        if members:
            at = [list(positions).index(p) for p in members]
            part = readability(members, scores[at], replicates[:, at], null[:, at])
            result["groups"][name] = asdict(part)
    return result


def interval(values: Scores, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over units drawn with replacement.

    Args:
        values: One value per unit (prompt, document), (units,).
        seed: Seed.
        draws: Bootstrap draws.
    """
    generator = np.random.default_rng(seed)
    means = values[generator.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(values.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
