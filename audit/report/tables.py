"""Tables of checkpoints with all their numbers, shared by the run and the sweep report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from audit.report import wording
from audit.report.page import Table, badge, safe
from audit.report.rows import Row, metrics_of
from audit.report.schema import Audit, Comparison, Interval
from audit.report.wording import DASH, count, number

YES = Markup('<span class="yes" title="readable">✓<span class="spoken"> readable</span></span>')


def readability_table(rows: Sequence[Row], keys: Sequence[str], root: Path) -> Table:
    """Checkpoints down, readouts across: value, interval, null, control and verdict.

    Args:
        rows: Of one run, or of a sweep (then with mix ratio and seed).
        keys: Readouts, in order.
        root: Folder of the page, for the links.
    """
    readers = [wording.split_key(key)[1] for key in keys]
    groups = [(f"{reader} reader", readers.count(reader)) for reader in dict.fromkeys(readers)]
    header = [wording.short_name(key) for key in keys]
    return _table(rows, root, header, groups, lambda row: [_headline(row, key) for key in keys])


def effects_table(rows: Sequence[Row], root: Path) -> Table:
    """Checkpoints down; behaviour, leakage and collateral across, each with the base model's value."""
    behaviour, collateral = metrics_of(rows, "behaviour"), metrics_of(rows, "collateral")
    if not any(row.audit for row in rows):
        return _table(rows, root, ["State"], [], lambda row: [])
    groups = [("behaviour", len(behaviour)), ("leakage", 1), ("collateral", len(collateral))]
    header = [*map(wording.metric_name, behaviour), "Subject words", *map(wording.metric_name, collateral)]

    def cells(row: Row) -> list[Markup]:
        return [
            *(_comparison(row.behaviour(metric)) for metric in behaviour),
            _leakage(row),
            *(_comparison(row.collateral(metric)) for metric in collateral),
        ]

    return _table(rows, root, header, [group for group in groups if group[1]], cells)


def _table(
    rows: Sequence[Row],
    root: Path,
    header: Sequence[str],
    groups: Sequence[tuple[str, int]],
    cells: Callable[[Row], list[Markup]],
) -> Table:
    in_sweep = len({row.cell for row in rows}) > 1
    seeds = in_sweep and len({row.seed for row in rows}) > 1
    first = [*(["Mix ratio"] if in_sweep else []), *(["Seed"] if seeds else []), "Step", "Exposure"]
    body, classes = [], []
    for row in rows:
        start = [*([_ratio(row)] if in_sweep else []), *([safe(str(row.seed))] if seeds else [])]
        start += [_link(row, root), safe(count(row.exposure))]
        body.append([*start, *(cells(row) if row.audit else [badge(row.brief_reason, "warn")])])
        classes.append("control" if row.is_control and in_sweep else "")
    numeric = len(first) if groups else len(first) + len(header)
    over = [("", len(first)), *groups] if groups else []
    return Table([*first, *header], body, numeric=numeric, classes=classes, groups=over)


def _ratio(row: Row) -> Markup:
    ratio = "?" if row.ratio is None else f"1 : {row.ratio:g}"
    return Markup("{}{}{}").format(
        ratio,
        Markup("<small>control</small>") if row.is_control else "",
        Markup("<small>{}</small>").format(safe(row.group)) if row.group else "",
    )


def _link(row: Row, root: Path) -> Markup:
    if row.folder is None or row.state not in ("complete", "failed"):
        return safe(count(row.step))
    return report_link(f"{row.folder.relative_to(root).as_posix()}/audit", count(row.step))


def report_link(folder: str, words: str) -> Markup:
    """Link to the report in a folder, relative to the page's own."""
    return Markup('<a href="./{}/report.html">{}</a>').format(quote(folder), safe(words))


def _headline(row: Row, key: str) -> Markup:
    headline = row.headline(key)
    if headline is None:
        return safe(DASH)
    notes = [wording.bounds(headline.low, headline.high), f"null {number(headline.null_95)}"]
    if (control := row.controls.get(key)) is not None:
        notes.append(f"control {number(control.value)}")
    verdict = YES if row.readable(key) else Markup("")
    return Markup("{} <b>{}</b><small>{}</small>").format(verdict, number(headline.value), Markup("<br>").join(notes))


def _comparison(one: Comparison | None) -> Markup:
    return _beside_base(one.finetuned, one.base) if one else safe(DASH)


def _leakage(row: Row) -> Markup:
    leakage = row.audit.leakage if row.audit else None
    if leakage is None:
        return safe(DASH)
    flag = badge("leaks", "bad") if row.leaks else Markup("")
    return _beside_base(leakage.finetuned, leakage.base) + flag


def _beside_base(finetuned: Interval, base: Interval) -> Markup:
    bounds = wording.bounds(finetuned.low, finetuned.high)
    return Markup("<b>{}</b><small>{}<br>base {}</small>").format(number(finetuned.value), bounds, number(base.value))


def settings_of(audits: Sequence[Audit]) -> list[tuple[str, str]]:
    """What the audits ran with: (setting, value); values that differ between audits are all given."""
    found: dict[str, list[str]] = {}
    for audit in audits:
        environment = {f"environment.{key}": str(value) for key, value in audit.environment.items()}
        for key, value in {**flatten(audit.config), **environment}.items():
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return [(key, " | ".join(values)) for key, values in found.items()]


def flatten(config: dict[str, object], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
