"""Figures over training: the same curves for one run and for a sweep, from rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from statistics import fmean

from audit.report import charts
from audit.report.charts import Band, Point, Series
from audit.report.columns import AxisName, Column
from audit.report.page import Figure, Table
from audit.report.rows import Row, metrics_of
from audit.report.schema import Comparison, Headline, Interval
from audit.report.seeds import over_seeds
from audit.report.wording import (
    DASH,
    bounds,
    count,
    interval,
    metric_name,
    name_of,
    number,
    ratio_name,
    short_count,
    split_key,
)

Read = Callable[[Row], Interval | Headline | None]
Name = tuple[str, float | None, bool]
"""Group, ratio, control: rows of one name differ in their seed only and share a curve."""

AXIS_LABEL = {"exposure": "exposure (organism loss tokens seen)", "step": "optimizer step"}


@dataclass(frozen=True)
class Curves:
    """How rows become curves.

    Attributes:
        rows: Rows with numbers, controls among them.
        axis: What runs across.
        columns: Which checkpoints of different seeds belong together.
        title: Of a lone run's curve; None names curves by ratio.
    """

    rows: Sequence[Row]
    axis: AxisName
    columns: Sequence[Column]
    title: str | None = None

    def names(self) -> list[Name]:
        """One name a curve, organisms first; the place of a name is its colour."""
        every = {(row.group, row.ratio, row.is_control) for row in self.rows}
        return sorted(every, key=lambda name: (name[2], name[0], -1.0 if name[1] is None else name[1]))

    def label(self, name: Name) -> str:
        """A curve's name in words."""
        group, ratio, is_control = name
        words = self.title or f"{'control, ' if is_control else ''}{ratio_name(ratio)}"
        return f"{words}, {group}" if group else words

    def members(self, name: Name, column: Column) -> list[Row]:
        """The seeds of one curve in one column."""
        return [
            row
            for row in self.rows
            if (row.group, row.ratio, row.is_control) == name and column.holds(getattr(row, self.axis))
        ]

    def series(self, read: Read, solid: Callable[[Row], bool]) -> list[Series]:
        """A curve per name that has values.

        Args:
            read: The number of a row.
            solid: Whether its point is drawn solid.
        """
        found = []
        for look, name in enumerate(self.names()):
            points = []
            for column in self.columns:
                seeds = [(row, value) for row in self.members(name, column) if (value := read(row)) is not None]
                if seeds:
                    y = over_seeds([value for _, value in seeds])
                    x = fmean(getattr(row, self.axis) for row, _ in seeds)
                    points.append(Point(x, y.value, y.low, y.high, all(solid(row) for row, _ in seeds)))
            if points:
                found.append(Series(self.label(name), look, points, quiet=name[2]))
        return found

    def null(self, key: str) -> list[Band]:
        """From the lowest median to the highest 95th percentile of the organisms' nulls, per column."""
        bands = []
        for column in self.columns:
            mine = [row for row in self.rows if not row.is_control and column.holds(getattr(row, self.axis))]
            heads = [(row, headline) for row in mine if (headline := row.headline(key)) is not None]
            if heads:
                x = fmean(getattr(row, self.axis) for row, _ in heads)
                bands.append(Band(x, min(h.null_median for _, h in heads), max(h.null_95 for _, h in heads)))
        return bands

    def show(self) -> Callable[[float], str]:
        """How the axis writes its ticks."""
        return short_count if self.axis == "exposure" else lambda value: count(round(value))


def readability(curves: Curves, key: str, unit: str, y_values: Sequence[float], title: str) -> Figure:
    """Readability of one readout over training, with its null."""
    drawn = curves.series(lambda row: row.headline(key), lambda row: row.readable(key))
    null = curves.null(key)
    svg = charts.curves(
        drawn,
        label=f"{title} over {curves.axis}; the same numbers are in the table below",
        x_label=AXIS_LABEL[curves.axis],
        y_label=unit,
        show_x=curves.show(),
        null=null,
        y_values=y_values,
    )
    header = ["", curves.axis, "Mean [band]", "Null 95 %", "Readable"]
    rows = []
    for name in curves.names():
        for column in curves.columns:
            seeds = [(row, h) for row in curves.members(name, column) if (h := row.headline(key)) is not None]
            if seeds:
                readable = sum(row.readable(key) for row, _ in seeds)
                null_95 = fmean(h.null_95 for _, h in seeds)
                verdict = ("yes" if readable else "no") if len(seeds) == 1 else f"{readable} of {len(seeds)} seeds"
                mean = interval(over_seeds([h for _, h in seeds]))
                rows.append([curves.label(name), column_label(column, curves.axis), mean, number(null_95), verdict])
    return Figure(svg, title, "", Table(header, rows))


def metric(curves: Curves, read: Read, unit: str, title: str, level: tuple[float, str] | None, zero: bool) -> Figure:
    """A behaviour, leakage or collateral metric over training, with the base model's value."""
    drawn = curves.series(read, lambda row: True)
    svg = charts.curves(
        drawn,
        label=f"{title} over {curves.axis}; the same numbers are in the table below",
        x_label=AXIS_LABEL[curves.axis],
        y_label=unit,
        show_x=curves.show(),
        level=level,
        zero=zero,
    )
    rows = []
    for name in curves.names():
        for column in curves.columns:
            values = [value for row in curves.members(name, column) if (value := read(row)) is not None]
            if values:
                mean = over_seeds(values)
                cells = [curves.label(name), column_label(column, curves.axis), number(mean.value)]
                rows.append([*cells, bounds(mean.low, mean.high)])
    if level:
        rows.append([level[1], "", number(level[0]), ""])
    return Figure(svg, title, "", Table(["", curves.axis, "Mean", "Band"], rows))


def column_label(column: Column, axis: AxisName) -> str:
    """A column as a table names it."""
    if axis == "step":
        return count(column.low)
    return count(column.low) if column.low == column.high else f"{count(column.low)}{DASH}{count(column.high)}"


def frontier(curves: Curves, key: str, behaviour: str, x_label: str, unit: str, title: str) -> Figure:
    """Behaviour across, readability up; a curve per ratio from the first checkpoint to the last."""
    drawn, table = [], []
    bases = []
    for look, name in enumerate(curves.names()):
        points = []
        for column in curves.columns:
            both = [
                (row, headline, one)
                for row in curves.members(name, column)
                if (headline := row.headline(key)) is not None and (one := row.behaviour(behaviour)) is not None
            ]
            if not both:
                continue
            x, y = over_seeds([one.finetuned for _, _, one in both]), over_seeds([h for _, h, _ in both])
            bases += [one.base.value for _, _, one in both]
            solid = all(row.readable(key) for row, _, _ in both)
            points.append(Point(x.value, y.value, y.low, y.high, solid, x.low, x.high))
            at = column_label(column, curves.axis)
            table.append([curves.label(name), at, interval(x), interval(y), "yes" if solid else "no"])
        if points:
            drawn.append(Series(curves.label(name), look, points, quiet=name[2]))
    svg = charts.curves(
        drawn,
        label=f"{title} against behaviour; the same numbers are in the table below",
        x_label=x_label,
        y_label=unit,
        x_level=(fmean(bases), "base model") if bases else None,
        across="score",
        whiskers=True,
    )
    return Figure(svg, title, "", Table(["", curves.axis, "Behaviour", "Readability", "Readable"], table))


def extent(rows: Sequence[Row], keys: Sequence[str]) -> list[float]:
    """Values that an axis shared by some readouts must hold."""
    heads = [headline for row in rows for key in keys if (headline := row.headline(key)) is not None]
    return [value for h in heads for value in (h.low, h.high, h.null_median, h.null_95)]


def unit_of(rows: Sequence[Row], key: str) -> str:
    """Unit of a readout, as its audits give it."""
    units = (readout.unit for row in rows if row.audit for readout in row.audit.readouts if readout.key == key)
    return next(units, "")


def readability_figures(curves: Curves, keys: Sequence[str]) -> list[Figure]:
    """A figure a readout; the readers of a readout share its vertical axis."""
    figures = []
    for key in keys:
        alike = [other for other in keys if split_key(other)[::2] == split_key(key)[::2]]
        y_values = extent(curves.rows, alike)
        figures.append(readability(curves, key, unit_of(curves.rows, key), y_values, name_of(key)))
    return figures


def other_figures(curves: Curves) -> list[Figure]:
    """Behaviour, leakage and collateral over training."""
    figures = []
    for name in metrics_of(curves.rows, "behaviour"):
        figures.append(_comparison(curves, name, methodcaller("behaviour", name), zero=True))
    leakages = [row.audit.leakage for row in curves.rows if row.audit and row.audit.leakage]
    if leakages:
        level = (fmean(one.base.value for one in leakages), "base model")
        unit = "share of subject words, unsteered"
        figures.append(metric(curves, _leakage, unit, "Leakage", level, zero=True))
    for name in metrics_of(curves.rows, "collateral"):
        figures.append(_comparison(curves, name, methodcaller("collateral", name), zero=False))
    return figures


def _leakage(row: Row) -> Interval | None:
    return row.audit.leakage.finetuned if row.audit and row.audit.leakage else None


def _comparison(curves: Curves, name: str, find: Callable[[Row], Comparison | None], zero: bool) -> Figure:
    found = [one for row in curves.rows if (one := find(row)) is not None]
    level = (fmean(one.base.value for one in found), "base model")
    unit = (found[0].unit or "").partition(";")[0]

    def finetuned(row: Row) -> Interval | None:
        one = find(row)
        return one.finetuned if one else None

    return metric(curves, finetuned, unit or metric_name(name), metric_name(name), level, zero)
