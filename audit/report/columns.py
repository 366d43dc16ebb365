"""Which checkpoints stand in one column: those at the same step, or at exposures as equal as optimizer steps allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from audit.report.rows import Row
from audit.report.wording import DASH, count, short_count

AxisName = Literal["exposure", "step"]
WIDEST = 0.10
"""Exposures that differ by at most this share count as equal, and so do those within one optimizer step."""


@dataclass(frozen=True)
class Column:
    """Checkpoints at equal exposure or step.

    Attributes:
        low: Smallest exposure or step in it.
        high: Largest.
        label: Heading.
        detail: Second line of the heading.
        cells: How many cells have a checkpoint in it.
    """

    low: int
    high: int
    label: str = ""
    detail: str = ""
    cells: int = 0

    def holds(self, value: int | None) -> bool:
        """Whether an exposure or step belongs here."""
        return value is not None and self.low <= value <= self.high


class Exposures:
    """Tells equal exposures from different ones.

    A checkpoint at a given exposure is the first step that has seen it, so runs whose steps hold more of the organism
    overshoot further. Two exposures are equal if they are within `WIDEST` or one step of each other, and nearer than half
    the way to another checkpoint of either run.

    Args:
        rows: Checkpoints that exist.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.half_gap: dict[tuple[str, int], float] = {}
        for cell in {row.cell for row in rows}:
            seen = sorted({row.exposure for row in rows if row.cell == cell and row.exposure is not None})
            gaps = [math.inf, *((later - earlier) / 2 for earlier, later in pairwise(seen)), math.inf]
            self.half_gap |= {(cell, value): min(pair) for value, pair in zip(seen, pairwise(gaps), strict=True)}

    def equal(self, a: Row, b: Row) -> bool:
        """Whether two checkpoints have seen as much of the organism."""
        if a.exposure is None or b.exposure is None:
            return False
        steps = [row.exposure / row.step for row in (a, b) if row.exposure and row.step]
        allowed = max(WIDEST * max(a.exposure, b.exposure), *steps) if steps else 0.0
        nearest = min(self.half_gap[a.cell, a.exposure], self.half_gap[b.cell, b.exposure])
        return abs(a.exposure - b.exposure) <= min(allowed, nearest)


def columns(rows: Sequence[Row], axis: AxisName) -> list[Column]:
    """Columns over all checkpoints that exist, ascending; no run has two checkpoints in one."""
    known = sorted((row for row in rows if getattr(row, axis) is not None), key=lambda row: int(getattr(row, axis)))
    exposures = Exposures(rows)
    clusters: list[list[Row]] = []
    for row in known:
        here = clusters[-1] if clusters else []
        same = bool(here) and getattr(here[-1], axis) == getattr(row, axis)
        near = axis == "exposure" and bool(here) and exposures.equal(here[0], row)
        if same or (near and row.cell not in {one.cell for one in here}):
            here.append(row)
        else:
            clusters.append([row])
    return [_column(cluster, axis) for cluster in clusters]


def _column(cluster: Sequence[Row], axis: AxisName) -> Column:
    values = [int(getattr(row, axis)) for row in cluster]
    low, high = values[0], values[-1]
    cells = len({row.cell for row in cluster})
    if axis == "step":
        return Column(low, high, f"step {count(low)}", "", cells)
    label = short_count(low) if high <= 1.02 * low else f"{short_count(low)}{DASH}{short_count(high)}"
    steps = sorted({row.step for row in cluster if row.step is not None})
    spread = count(steps[0]) if steps[0] == steps[-1] else f"{count(steps[0])}{DASH}{count(steps[-1])}"
    return Column(low, high, label, f"step {spread}", cells)


def filled(rows: Sequence[Row], axis: AxisName) -> float:
    """Share of cells and columns that meet in a checkpoint."""
    found = columns(rows, axis)
    cells = {row.cell for row in rows}
    return sum(column.cells for column in found) / (len(cells) * len(found)) if found else 0.0
