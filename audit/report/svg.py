"""Inline SVG: elements, scales, axes and marks. Colours are CSS classes: one drawing serves light, dark, print."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.report.page import safe
from audit.report.wording import nice_step

COLOURS = 6
"""Classes c0..c5 of the style sheet."""

Format = Callable[[float], str]


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element; `class_` and `stroke_width` become `class` and `stroke-width`, None is left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>{''.join(map(safe, children))}</{name}>")


def _attribute(value: str | float) -> Markup:
    return safe(value) if isinstance(value, str) else safe(f"{value:.2f}".rstrip("0").rstrip("."))


def drawing(width: float, height: float, label: str, *children: str) -> Markup:
    """The outer element.

    Args:
        width: Pixels at 100 %.
        height: Pixels at 100 %.
        label: Read out in place of the drawing.
        *children: What is drawn, the last on top.
    """
    return element(
        "svg", *children, viewBox=f"0 0 {width:g} {height:g}", width=width, height=height, role="img", aria_label=label
    )


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    """Text whose baseline is at y."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, radius: float = 0) -> Markup:
    """A rectangle."""
    return element("rect", x=x, y=y, width=max(width, 0), height=max(height, 0), class_=class_, rx=radius or None)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through points."""
    return element("polyline", points=_points(points), class_=class_)


def polygon(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A filled shape."""
    return element("polygon", points=_points(points), class_=class_)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def mark(x: float, y: float, shape: int, class_: str, size: float = 4.2) -> Markup:
    """A data point: circle, square, diamond or triangle, by `shape`."""
    if shape % 4 == 0:
        return element("circle", cx=x, cy=y, r=size, class_=class_)
    if shape % 4 == 1:
        return rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8, class_)
    reach = size * 1.3
    if shape % 4 == 2:
        return polygon([(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)], class_)
    return polygon([(x, y - reach), (x + reach, y + size), (x - reach, y + size)], class_)


def clipped(content: str, most: int) -> str:
    """A label of at most `most` characters; the whole of it stands in the table."""
    return content if len(content) <= most else content[: most - 1] + "…"


@dataclass(frozen=True)
class Scale:
    """Data to pixels.

    Attributes:
        low: Data at `start`.
        high: Data at `end`.
        start: Pixels.
        end: Pixels; below `start` for a vertical axis.
        log: Logarithmic.
        whole: Only whole numbers make ticks.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        """Pixels of a value; values outside are drawn at the edge."""
        low, high = self._along(self.low), self._along(self.high)
        share = (self._along(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _along(self, value: float) -> float:
        return math.log(value) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the scale."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                values = [factor * 10.0**power for power in powers for factor in factors]
                inside = [value for value in values if self.low <= value <= self.high]
                if len(inside) <= most:
                    break
            return inside
        step = nice_step(self.high - self.low, most)
        step = max(step, 1.0) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 12) + 0.0 for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def spanning(values: Sequence[float], start: float, end: float, *, zero: bool = False, least: float = 0.0) -> Scale:
    """A linear scale with round ends around some values.

    Args:
        values: What must fit; none at all gives 0 to 1.
        start: Pixels.
        end: Pixels.
        zero: Include zero.
        least: At least this long.
    """
    pool = [*values, *([0.0] if zero or not values else [])]
    low, high = min(pool), max(pool)
    high = max(high, low + (least or (abs(low) or 1.0) * 1e-6))
    if not values:
        high = 1.0
    step = nice_step(high - low, 5)
    top = math.ceil(high / step - 1e-9) * step
    if high <= 1 < top:
        top = 1.0
    return Scale(math.floor(low / step + 1e-9) * step, top, start, end)


def covering(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale for steps or exposures: logarithmic when they span more than a factor of 20."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) / min(positive) > 20:
        return Scale(min(positive) / 1.25, max(positive) * 1.1, start, end, log=True, whole=True)
    high = max(values, default=1.0) or 1.0
    return Scale(0.0, high * 1.04, start, end, whole=True)


def around(values: Sequence[float], start: float, end: float) -> Scale:
    """A linear scale with a margin on both sides of some values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * (high - low) or 0.5
    return Scale(low - margin, high + margin, start, end)


def plain(ticks: Sequence[float]) -> Format:
    """Writes ticks with the decimals that the finest of them needs."""
    decimals = max((len(f"{tick:.10g}".partition(".")[2]) for tick in ticks if "e" not in f"{tick:.10g}"), default=0)
    return lambda tick: f"{tick:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def x_axis(scale: Scale, y: float, label: str, show: Format | None = None, most: int = 6) -> Markup:
    """Ticks and label below a plot whose lower edge is at y."""
    ticks = scale.ticks(most)
    show = show or plain(ticks)
    parts = [line(scale.start, y, scale.end, y, "axis")]
    for value in ticks:
        x = scale(value)
        parts += [line(x, y, x, y + 4, "axis"), text(x, y + 17, show(value), "tick", "middle")]
    parts.append(text((scale.start + scale.end) / 2, y + 35, label, "axis-label", "middle"))
    return Markup("").join(parts)


def y_axis(scale: Scale, x: float, right: float, label: str) -> Markup:
    """Ticks, grid lines to `right`, and the label above the axis, so that nobody reads sideways."""
    parts = [text(0, scale.end - 12, label, "axis-label")]
    ticks = scale.ticks(5)
    show = plain(ticks)
    for value in ticks:
        y = scale(value)
        parts += [line(x, y, right, y, "grid"), text(x - 7, y + 4, show(value), "tick", "end")]
    return Markup("").join(parts)
