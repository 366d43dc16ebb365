"""The sweep in a few sentences: what is readable at equal exposure, what the behaviour does, what the control says."""

from collections.abc import Sequence
from statistics import fmean

from audit.report import wording
from audit.report.columns import Column
from audit.report.grid import Grid
from audit.report.panels import column_label
from audit.report.rows import Row, keys_of
from audit.report.seeds import over_seeds
from audit.report.wording import listing, number, plural, ratio_name

PREFERRED = (
    "answer_margin",
    "multiple_choice_margin",
    "paraphrase_margin",
    "template_margin",
    "multiple_choice_accuracy",
)
MOST_RATIOS = 4


def behaviour_metric(metrics: Sequence[str]) -> str | None:
    """The behaviour metric that stands for all: a margin saturates later than an accuracy."""
    return next((metric for metric in (*PREFERRED, *metrics) if metric in metrics), None)


def answer(grid: Grid, metric: str | None) -> str:
    """The paragraph at the top of the sweep report.

    Args:
        grid: The sweep.
        metric: The behaviour metric that stands for all.
    """
    if not grid.audited:
        return "No checkpoint of an organism has been audited yet, so there is nothing to conclude."
    sentences = []
    for group in grid.groups:
        rows = [row for row in grid.audited if row.group == group]
        if rows:
            sentences += _group(grid, group, rows, metric)
    return " ".join([*sentences, _control(grid), _leakage(grid), _missing(grid)]).strip()


def _group(grid: Grid, group: str, rows: list[Row], metric: str | None) -> list[str]:
    column = _last_shared(grid, rows)
    at = [row for row in rows if column.holds(getattr(row, grid.axis))]
    ratios = sorted({row.ratio for row in at}, key=lambda ratio: -1.0 if ratio is None else ratio)
    cells = _telling([[row for row in at if row.ratio == ratio] for ratio in ratios])
    where = f"exposure {column_label(column, 'exposure')} (organism loss tokens)"
    if grid.axis == "step":
        where = f"step {column_label(column, 'step')}"
    more = f" ({len(ratios)} ratios below)" if len(cells) < len(ratios) else ""
    counts = [f"by {_how_many(cell)} at {ratio_name(cell[0].ratio)}" for cell in cells]
    prefix = f"{group}: at" if group else "At"
    planned = {row.ratio for row in grid.rows if row.group == group and not row.is_control}
    which = (
        "the last with all ratios"
        if len(planned) == len(ratios)
        else f"where {len(ratios)} of {len(planned)} ratios have numbers"
    )
    sentences = [f"{prefix} {where}, {which}, the planted property is readable {listing(counts)}{more}."]
    leading = next(iter(wording.order(keys_of(at))), None)
    if leading is not None:
        sentences.append(_reading(cells, leading))
    if metric is not None:
        sentences += _behaviour(cells, metric)
    some = sum(any(row.readable(key) for key in keys_of([row])) for row in rows)
    sentences.append(
        f"Over all training, {some} of {plural(len(rows), 'checkpoint')} can be read by at least one readout."
    )
    return sentences


def _telling(cells: list[list[Row]]) -> list[list[Row]]:
    """Of more than `MOST_RATIOS` ratios the first, the last that is readable by anything, and the last."""
    if len(cells) <= MOST_RATIOS:
        return cells
    readable = [index for index, cell in enumerate(cells) if _readable_keys(cell)]
    return [cells[index] for index in sorted({0, *readable[-1:], len(cells) - 1})]


def _readable_keys(cell: Sequence[Row]) -> list[str]:
    """Readouts that are readable in every seed of a cell."""
    return [key for key in wording.order(keys_of(cell)) if all(row.readable(key) for row in cell)]


def _last_shared(grid: Grid, rows: Sequence[Row]) -> Column:
    """The last column in which most ratios have numbers."""
    columns = grid.columns[grid.axis]

    def ratios(column: Column) -> int:
        return len({row.ratio for row in rows if column.holds(getattr(row, grid.axis))})

    most = max(ratios(column) for column in columns)
    return [column for column in columns if ratios(column) == most][-1]


def _how_many(cell: Sequence[Row]) -> str:
    """How many readouts are readable in every seed of a cell, and which reader they belong to."""
    keys, found = keys_of(cell), _readable_keys(cell)
    if not found:
        return f"none of {plural(len(keys), 'readout')}"
    readers = [wording.split_key(key)[1] for key in found]
    each = ", ".join(f"{reader} reader {readers.count(reader)}" for reader in dict.fromkeys(readers))
    return f"{len(found)} of {plural(len(keys), 'readout')} ({each})"


def _reading(cells: Sequence[Sequence[Row]], key: str) -> str:
    parts, nulls, controls = [], [], []
    for cell in cells:
        heads = [headline for row in cell if (headline := row.headline(key)) is not None]
        if heads:
            parts.append(f"{wording.interval(over_seeds(heads))} at {ratio_name(cell[0].ratio)}")
            nulls += [headline.null_95 for headline in heads]
            controls += [row.controls[key].value for row in cell if key in row.controls]
    null = number(nulls[0]) if min(nulls) == max(nulls) else f"{number(min(nulls))} to {number(max(nulls))}"
    control = f"; the control scores {number(max(controls))}" if controls else ""
    return (
        f"{wording.name_of(key)}: {listing(parts)}; the null\N{RIGHT SINGLE QUOTATION MARK}s 95 % is {null}{control}."
    )


def _behaviour(cells: Sequence[Sequence[Row]], metric: str) -> list[str]:
    parts, bases, unit = [], [], ""
    for cell in cells:
        found = [one for row in cell if (one := row.behaviour(metric)) is not None]
        if found:
            unit = f" ({found[0].unit})" if found[0].unit else ""
            bases += [one.base.value for one in found]
            parts.append(f"{number(fmean(one.finetuned.value for one in found))} at {ratio_name(cell[0].ratio)}")
    if not parts:
        return []
    name = wording.metric_name(metric)
    return [f"Behaviour, {name[0].lower()}{name[1:]}{unit}: {listing(parts)}; base model {number(fmean(bases))}."]


def _control(grid: Grid) -> str:
    if not grid.controls:
        return "The sweep has no audited control, so every verdict rests on random directions alone."
    readings = [(row, key) for row in grid.controls for key in keys_of([row])]
    hits = [(row, key) for row, key in readings if row.readable(key)]
    if not hits:
        return f"The control beats its random directions in none of its {plural(len(readings), 'reading')}."
    names = listing([wording.name_of(key) for key in wording.order({key for _, key in hits})])
    return (
        f"The control itself beats its random directions in {len(hits)} of its {plural(len(readings), 'reading')} "
        f"({names}), which is why a reading has to beat the control as well."
    )


def _leakage(grid: Grid) -> str:
    leaking = sum(row.leaks for row in grid.audited)
    if not leaking:
        return "No organism checkpoint leaks."
    verb = "leaks and is" if leaking == 1 else "leak and are"
    return f"{leaking} of {plural(len(grid.audited), 'organism checkpoint')} {verb} no subtle test subject."


def _missing(grid: Grid) -> str:
    absent = sum(row.audit is None for row in grid.rows)
    verb = "has" if absent == 1 else "have"
    return f"{absent} of {plural(len(grid.rows), 'checkpoint')} {verb} no numbers." if absent else ""
