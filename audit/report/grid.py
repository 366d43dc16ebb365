"""The sweep as a grid: what sets its cells apart, columns of equal exposure or step, controls beside each row."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from audit.report.collect import Cell, Sweep
from audit.report.rows import ControlValue, MatchedBy, Row, facts_of, keys_of, rows_of_run
from audit.report.wording import DASH, count, short_count

AxisName = Literal["exposure", "step"]
WIDEST = 0.10
"""Exposures of two runs that differ by more than this share never count as equal."""

NOT_AN_AXIS = {"mix.ratio", "seed", "organism", "name", "output_dir", "recipe"}


@dataclass(frozen=True)
class Column:
    """A column of the heat maps: checkpoints at equal exposure or step.

    Attributes:
        low: Smallest exposure or step in it.
        high: Largest.
        label: Heading.
        detail: Second line of the heading.
    """

    low: int
    high: int
    label: str
    detail: str

    def holds(self, value: int | None) -> bool:
        """Whether an exposure or step belongs here."""
        return value is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Grid:
    """All rows of a sweep, its controls matched.

    Attributes:
        rows: Sorted by group, control, ratio, seed and step; with the missing ones.
        axis: The better filled axis.
        tolerance: Exposures that differ by at most this share count as equal.
    """

    rows: tuple[Row, ...]
    axis: AxisName
    tolerance: float

    @property
    def audited(self) -> list[Row]:
        """Rows of organisms with numbers."""
        return [row for row in self.rows if row.audit and not row.is_control]

    @property
    def controls(self) -> list[Row]:
        """Rows of controls with numbers."""
        return [row for row in self.rows if row.audit and row.is_control]

    @property
    def groups(self) -> list[str]:
        """Groups, in order."""
        return list(dict.fromkeys(row.group for row in self.rows))

    def columns(self, axis: AxisName) -> list[Column]:
        """Columns over all rows."""
        return _columns(self.rows, axis, self.tolerance)


def make_grid(sweep: Sweep) -> Grid:
    """Rows, groups, the better axis, missing rows and controls."""
    groups = _groups(sweep.cells)
    rows = [
        row
        for cell, group in zip(sweep.cells, groups, strict=True)
        if cell.run is not None
        for row in rows_of_run(cell.run, cell.name, group, cell.overrides)
    ]
    tolerance = _tolerance(rows)
    axes: tuple[AxisName, ...] = ("exposure", "step")
    axis = max(axes, key=lambda name: _filled(rows, name, tolerance))
    columns = _columns(rows, axis, tolerance)
    for cell, group in zip(sweep.cells, groups, strict=True):
        rows += _missing(cell, group, [row for row in rows if row.cell == cell.name], columns, axis)
    matched = [dataclasses.replace(row, controls=_controls_of(row, rows, tolerance)) for row in rows]
    return Grid(tuple(sorted(matched, key=_place)), axis, tolerance)


def _place(row: Row) -> tuple[object, ...]:
    at = (row.exposure if row.exposure is not None else -1, row.step if row.step is not None else -1)
    return (row.group, row.is_control, -1.0 if row.ratio is None else row.ratio, row.seed or 0, row.cell, at)


def _groups(cells: Sequence[Cell]) -> list[str]:
    """For each cell, what sets it apart besides ratio, seed and control; without audits it joins the majority."""
    identities: list[dict[str, str]] = []
    for cell in cells:
        own = {key: value for key, value in cell.overrides.items() if key not in NOT_AN_AXIS}
        if cell.run is not None and cell.run.audits:
            subject = cell.run.audits[0].subject
            own |= {"base_model": subject.base, "finetune": subject.kind}
            if name := subject.control_of or subject.organism:
                own["organism"] = name
        identities.append(own)
    usual = {
        part: Counter(own[part] for own in identities if part in own).most_common()
        for part in dict.fromkeys(part for own in identities for part in own)
    }
    vary = [part for part, values in usual.items() if len(values) > 1]
    return [", ".join(f"{part} {own.get(part, usual[part][0][0])}" for part in vary) for own in identities]


def _tolerance(rows: Sequence[Row]) -> float:
    """Half the smallest relative gap between two checkpoints of one run, at most `WIDEST`."""
    gaps = []
    for name in {row.cell for row in rows}:
        seen = sorted(row.exposure for row in rows if row.cell == name and row.exposure is not None)
        gaps += [(later - earlier) / later for earlier, later in pairwise(seen) if later > earlier]
    return min([WIDEST, *(gap / 2 for gap in gaps)])


def _columns(rows: Sequence[Row], axis: AxisName, tolerance: float) -> list[Column]:
    allowed = tolerance if axis == "exposure" else 0.0
    values = sorted({value for row in rows if (value := getattr(row, axis)) is not None})
    clusters: list[list[int]] = []
    for value in values:
        if clusters and value - clusters[-1][0] <= allowed * value:
            clusters[-1].append(value)
        else:
            clusters.append([value])
    return [_column(cluster, rows, axis) for cluster in clusters]


def _column(cluster: list[int], rows: Sequence[Row], axis: AxisName) -> Column:
    low, high = cluster[0], cluster[-1]
    if axis == "step":
        return Column(low, high, f"step {count(low)}", "")
    steps = sorted({row.step for row in rows if row.exposure in cluster and row.step is not None})
    spread = count(steps[0]) if steps[0] == steps[-1] else f"{count(steps[0])}{DASH}{count(steps[-1])}"
    return Column(low, high, short_count(cluster[len(cluster) // 2]), f"step {spread}")


def _filled(rows: Sequence[Row], axis: AxisName, tolerance: float) -> float:
    columns = _columns(rows, axis, tolerance)
    cells = {row.cell for row in rows}
    taken = {(row.cell, column.low) for row in rows for column in columns if column.holds(getattr(row, axis))}
    return len(taken) / (len(cells) * len(columns)) if columns else 0.0


def _missing(cell: Cell, group: str, own: Sequence[Row], columns: Sequence[Column], axis: AxisName) -> list[Row]:
    """A row for each column that a cell has no checkpoint in; one in all if there are no columns."""
    reasons = {"failed": "the cell failed", "pending": "the cell has not started", "running": "not reached yet"}
    reason = reasons.get(cell.status, f"no checkpoint at this {axis}")
    blank = Row(cell.name, group, **facts_of(cell), step=None, exposure=None, state="missing", reason=reason)
    if not columns:
        return [] if own else [blank]
    middle = {column.low: (column.low + column.high) // 2 for column in columns}
    return [
        dataclasses.replace(blank, step=middle[column.low])
        if axis == "step"
        else dataclasses.replace(blank, exposure=middle[column.low])
        for column in columns
        if not any(column.holds(getattr(row, axis)) for row in own)
    ]


def _controls_of(row: Row, rows: Sequence[Row], tolerance: float) -> dict[str, ControlValue]:
    """For each readout, the control at the same ratio and step, else at the same exposure; of several the largest."""
    if row.is_control or row.audit is None:
        return {}
    controls = [one for one in rows if one.is_control and one.audit and one.group == row.group]
    by: MatchedBy = "ratio and step"
    same = [one for one in controls if one.ratio == row.ratio and one.step == row.step]
    if not same and row.exposure is not None:
        by = "exposure"
        near = {one.cell: _nearest(row.exposure, [c for c in controls if c.cell == one.cell]) for one in controls}
        same = [one for one in near.values() if one is not None and _equal(one.exposure, row.exposure, tolerance)]
    found = {}
    for key in keys_of(same):
        values = [(headline, one) for one in same if (headline := one.headline(key)) is not None]
        headline, one = max(values, key=lambda pair: pair[0].value)
        assert one.step is not None
        found[key] = ControlValue(headline.value, headline.low, headline.high, one.cell, one.step, one.exposure, by)
    return found


def _nearest(exposure: int, rows: Sequence[Row]) -> Row | None:
    known = [(abs(row.exposure - exposure), index) for index, row in enumerate(rows) if row.exposure is not None]
    return rows[min(known)[1]] if known else None


def _equal(a: int | None, b: int, tolerance: float) -> bool:
    return a is not None and abs(a - b) <= tolerance * max(a, b)
