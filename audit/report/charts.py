"""Curves with bands, readability with its null, base against finetuned, and the difference's norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from audit.report import svg
from audit.report.page import safe
from audit.report.schema import Difference, DifferenceAt, Headline, Interval
from audit.report.svg import Format, Scale
from audit.report.wording import number


@dataclass(frozen=True)
class Point:
    """A point of a curve.

    Attributes:
        x: Step, exposure or a score.
        y: Value.
        low: Lower end of its band or whisker.
        high: Upper end.
        filled: Drawn solid: it beats its null. Others are hollow.
        x_low: Lower end of a horizontal whisker.
        x_high: Upper end.
    """

    x: float
    y: float
    low: float
    high: float
    filled: bool = True
    x_low: float | None = None
    x_high: float | None = None


@dataclass(frozen=True)
class Series:
    """A curve; `look` is its colour and shape, `quiet` draws it grey and dashed (a control, a base model)."""

    name: str
    look: int
    points: Sequence[Point]
    quiet: bool = False

    @property
    def class_(self) -> str:
        """Its colour class."""
        return "quiet" if self.quiet else f"c{self.look % svg.COLOURS}"


@dataclass(frozen=True)
class Band:
    """A shaded stretch at x."""

    x: float
    low: float
    high: float


def curves(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    y_label: str,
    show_x: Format | None = None,
    null: Sequence[Band] = (),
    level: tuple[float, str] | None = None,
    x_level: tuple[float, str] | None = None,
    y_values: Sequence[float] = (),
    zero: bool = True,
    across: Literal["progress", "steps", "score"] = "progress",
    whiskers: bool = False,
    width: float = 500,
    height: float = 260,
) -> Markup:
    """Lines through points, each with its band or whiskers.

    Args:
        series: The curves; those drawn last lie on top.
        label: Read out in place of the drawing.
        x_label: Name and unit.
        y_label: Name and unit.
        show_x: How ticks are written.
        null: The null band.
        level: A horizontal dashed line and its name.
        x_level: A vertical one.
        y_values: More values that the axis must hold: several drawings share one axis by it.
        zero: The vertical axis begins at zero.
        across: `progress`: checkpoints, logarithmic if they span much; `steps`: every step; `score`: any number.
        whiskers: Error bars in place of bands.
        width: Pixels.
        height: Pixels.
    """
    left, right, top, bottom = 46, width - 12, 28, height - 44
    points = [point for one in series for point in one.points]
    xs = [point.x for point in points]
    ends = [end for point in points for end in (point.x_low, point.x_high) if end is not None]
    ys = [y for point in points for y in (point.low, point.y, point.high)] + [y for b in null for y in (b.low, b.high)]
    ys += [*y_values, *([level[0]] if level else [])]
    x = Scale(0.0, max(xs, default=1.0) * 1.01, left, right, whole=True)
    if across == "progress":
        x = svg.covering(xs, left, right)
    elif across == "score":
        x = svg.around([*xs, *ends, *([x_level[0]] if x_level else [])], left, right)
    y = svg.spanning(ys, bottom, top, zero=zero, least=0.1 if zero else 0.0)
    parts = [svg.y_axis(y, left, right, y_label), svg.x_axis(x, bottom, x_label, show_x)]
    if null:
        parts.append(_null(null, x, y))
    if level:
        parts += [svg.line(left, y(level[0]), right, y(level[0]), "level")]
        parts += [svg.text(right, y(level[0]) - 5, level[1], "note", "end")]
    if x_level:
        parts += [svg.line(x(x_level[0]), top, x(x_level[0]), bottom, "level")]
        parts += [svg.text(x(x_level[0]) + 5, top + 8, x_level[1], "note")]
    for one in series:
        parts.append(_curve(one, x, y, whiskers))
    return svg.drawing(width, height, label, *parts)


def _null(null: Sequence[Band], x: Scale, y: Scale) -> Markup:
    if len(null) == 1:
        centre = x(null[0].x)
        return svg.rect(centre - 14, y(null[0].high), 28, y(null[0].low) - y(null[0].high), "null")
    shape = [(x(b.x), y(b.high)) for b in null] + [(x(b.x), y(b.low)) for b in reversed(null)]
    return Markup("").join(
        [svg.polygon(shape, "null"), svg.polyline([(x(b.x), y(b.high)) for b in null], "null-edge")]
    )


def _curve(one: Series, x: Scale, y: Scale, whiskers: bool) -> Markup:
    parts = []
    if whiskers:
        for p in one.points:
            parts.append(svg.line(x(p.x), y(p.low), x(p.x), y(p.high), f"whisker {one.class_}"))
            if p.x_low is not None and p.x_high is not None:
                parts.append(svg.line(x(p.x_low), y(p.y), x(p.x_high), y(p.y), f"whisker {one.class_}"))
    elif len(one.points) == 1:
        (p,) = one.points
        parts.append(svg.line(x(p.x), y(p.low), x(p.x), y(p.high), f"whisker {one.class_}"))
    else:
        shape = [(x(p.x), y(p.high)) for p in one.points] + [(x(p.x), y(p.low)) for p in reversed(one.points)]
        parts.append(svg.polygon(shape, f"band {one.class_}"))
    parts.append(svg.polyline([(x(p.x), y(p.y)) for p in one.points], f"curve {one.class_}"))
    if len(one.points) <= 30:
        for p in one.points:
            fill = "" if p.filled else " hollow"
            parts.append(svg.mark(x(p.x), y(p.y), one.look, f"dot {one.class_}{fill}"))
    return Markup("").join(parts)


def legend(series: Sequence[Series], *, null: str = "", hollow: str = "") -> Markup:
    """A line of keys over one or more drawings.

    Args:
        series: The curves.
        null: What the grey band is, if there is one.
        hollow: What a hollow point means, if any is.
    """
    items = []
    for one in series:
        key = svg.line(0, 7, 26, 7, f"curve {one.class_}") + svg.mark(13, 7, one.look, f"dot {one.class_}")
        items.append((svg.element("svg", key, width=26, height=14, aria_hidden="true"), one.name))
    if hollow:
        dots = svg.mark(7, 7, 0, "dot plain") + svg.mark(21, 7, 0, "dot plain hollow")
        items.append((svg.element("svg", dots, width=28, height=14, aria_hidden="true"), hollow))
    if null:
        band = svg.rect(0, 2, 26, 10, "null") + svg.line(0, 2, 26, 2, "null-edge")
        items.append((svg.element("svg", band, width=26, height=14, aria_hidden="true"), null))
    keys = Markup("").join(Markup("<span>{}{}</span>").format(key, safe(name)) for key, name in items)
    return Markup('<div class="legend">{}</div>').format(keys)


def readability(rows: Sequence[tuple[str, Headline, Sequence[float]]], label: str, unit: str) -> Markup:
    """Each readout's value and interval on its null.

    Args:
        rows: Name, headline, and the values against the decoys' vocabularies.
        label: Read out in place of the drawing.
        unit: Of the axis.
    """
    width, left, right, pitch = 500.0, 190.0, 446.0, 34.0
    bottom = 12 + pitch * len(rows)
    every = [v for _, h, decoys in rows for v in (h.low, h.value, h.high, h.null_median, h.null_95, *decoys)]
    x = svg.spanning(every, left, right, zero=True, least=0.1)
    parts = [svg.line(x(tick), 8, x(tick), bottom, "grid") for tick in x.ticks(5)]
    parts.append(svg.x_axis(x, bottom, unit, most=5))
    for index, (name, h, decoys) in enumerate(rows):
        y = 12 + pitch * (index + 0.5)
        look = "c0" if h.readable else "quiet"
        parts += [
            svg.text(left - 12, y + 4, svg.clipped(name, 30), "row-label", "end"),
            svg.rect(x(x.low), y - 10, x(h.null_95) - x(x.low), 20, "null"),
            svg.line(x(h.null_95), y - 10, x(h.null_95), y + 10, "null-edge"),
            svg.line(x(h.null_median), y - 10, x(h.null_median), y + 10, "null-median"),
            *(svg.line(x(value), y + 5, x(value), y + 10, "decoy") for value in decoys),
            svg.line(x(h.low), y, x(h.high), y, f"whisker {look}"),
            svg.mark(x(h.value), y, 0, f"dot {look}{'' if h.readable else ' hollow'}", 5),
            svg.text(right + 10, y + 4, number(h.value), "value strong" if h.readable else "value"),
        ]
    return svg.drawing(width, bottom + 44, label, *parts)


def base_against_finetuned(rows: Sequence[tuple[str, Interval, Interval]], label: str) -> Markup:
    """One line a metric, each on its own axis: hollow the base model, solid the finetuned one.

    Args:
        rows: Name with unit, the finetuned model's number, the base model's.
        label: Read out in place of the drawing.
    """
    width, left, right, pitch = 500.0, 14.0, 408.0, 54.0
    parts = []
    for index, (name, finetuned, base) in enumerate(rows):
        y = pitch * index + 32
        values = [v for i in (base, finetuned) for v in (i.low, i.value, i.high)]
        x = svg.spanning(values, left, right)
        show = svg.plain([x.low, x.high])
        ends = (svg.text(left, y + 17, show(x.low), "tick"), svg.text(right, y + 17, show(x.high), "tick", "end"))
        parts += [svg.text(left, y - 14, name, "row-label"), svg.line(left, y, right, y, "axis"), *ends]
        if x.low < 0 < x.high:
            parts += [svg.line(x(0), y - 6, x(0), y + 6, "axis"), svg.text(x(0), y + 17, "0", "tick", "middle")]
        parts.append(svg.line(x(base.value), y, x(finetuned.value), y, "move"))
        for one, look in ((base, "plain hollow"), (finetuned, "c0")):
            parts.append(svg.line(x(one.low), y, x(one.high), y, f"whisker {look}"))
            parts.append(svg.mark(x(one.value), y, 0, f"dot {look}", 5))
        parts.append(svg.text(right + 14, y + 4, number(finetuned.value), "value strong"))
        parts.append(svg.text(right + 14, y + 19, f"base {number(base.value)}", "tick"))
    return svg.drawing(width, pitch * len(rows) + 8, label, *parts)


def difference_norms(difference: Difference, label: str) -> Markup:
    """Bars of the norm per position; position 0, the attention sink, on an axis of its own."""
    rest = [at for at in difference.positions if at.position > 0]
    sink = [at for at in difference.positions if at.position == 0]
    top, bottom = 34.0, 200.0
    width = 1036.0
    parts = []
    for group, left, right, class_ in ((sink, 52.0, 200.0, "bar sink"), (rest, 300.0, width - 12, "bar")):
        if group:
            parts.append(_bars(group, left, right, top, bottom, class_))
    if sink:
        parts.append(svg.text(126, bottom + 52, "attention sink, own axis", "note", "middle"))
        parts.append(svg.line(246, top, 246, bottom + 50, "apart"))
    return svg.drawing(width, bottom + 62, label, *parts)


def _bars(group: Sequence[DifferenceAt], left: float, right: float, top: float, bottom: float, class_: str) -> Markup:
    y = svg.spanning([at.norm + at.standard_error for at in group], bottom, top, zero=True)
    pitch = (right - left) / len(group)
    thick = min(64.0, pitch * 0.6)
    roomy = pitch > 135
    of_norm = " of activation norm" if roomy else ""
    x0 = left - 52 if left < 100 else left - 46
    parts = [svg.element("g", svg.y_axis(y, left - x0, right - x0, "L2 norm"), transform=f"translate({x0:g} 0)")]
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    for index, at in enumerate(group):
        x = left + pitch * (index + 0.5)
        parts += [
            svg.rect(x - thick / 2, y(at.norm), thick, bottom - y(at.norm), class_, 2),
            svg.line(x, y(at.norm - at.standard_error), x, y(at.norm + at.standard_error), "whisker plain"),
            svg.text(
                x, bottom + 17, f"position {at.position}" if roomy else str(at.position), "tick strong", "middle"
            ),
            svg.text(x, bottom + 34, f"{100 * at.relative_norm:.1f} %{of_norm}", "tick", "middle"),
        ]
        if at.position > 0 and roomy:
            parts.append(svg.text(x, bottom + 50, f"halves agree: cos {at.split_half_cosine:.2f}", "tick", "middle"))
    return Markup("").join(parts)
