"""Heat map of readability: mix ratio down, exposure or step across; what does not beat its null is hatched."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.report import svg
from audit.report.page import safe
from audit.report.wording import number

STEPS = 9
"""Classes h0..h8 of the style sheet."""

LABEL = 92.0
HALF = 500.0
"""Drawings up to this wide stand two abreast."""

NARROWEST, WIDEST, HEIGHT, GAP = 82.0, 150.0, 62.0, 18.0

HATCH = svg.element(
    "svg",
    svg.element(
        "defs",
        svg.element(
            "pattern",
            svg.line(0, 0, 0, 8, "hatch"),
            id="hatch",
            width=8,
            height=8,
            patternUnits="userSpaceOnUse",
            patternTransform="rotate(45)",
        ),
    ),
    width=0,
    height=0,
    aria_hidden="true",
    class_="defs",
)
"""Once on every page with a heat map."""


@dataclass(frozen=True)
class HeatCell:
    """One cell, averaged over seeds.

    Attributes:
        value: Mean headline.
        null_95: Mean 95th percentile of the null.
        control: The control's value; None without one.
        readable: Seeds whose value beats null and control.
        seeds: Seeds with a value.
        leaks: Seeds that leak.
        is_control: Of a control, which has no control of its own.
    """

    value: float
    null_95: float
    control: float | None
    readable: int
    seeds: int
    leaks: int
    is_control: bool = False

    @property
    def established(self) -> bool:
        """Whether every seed is readable."""
        return self.readable == self.seeds


@dataclass(frozen=True)
class HeatRow:
    """A row; a cell without numbers is a word that says why.

    Attributes:
        label: Ratio.
        detail: Second line.
        cells: One per column.
        is_control: Set apart below.
    """

    label: str
    detail: str
    cells: Sequence[HeatCell | str]
    is_control: bool


def width_of(columns: int) -> float:
    """Width of a heat map: two abreast if the columns allow it."""
    if LABEL + columns * NARROWEST <= HALF:
        return HALF
    return LABEL + columns * NARROWEST if columns > 11 else max(2 * HALF + 36, LABEL + columns * NARROWEST)


def heat_map(
    rows: Sequence[HeatRow], columns: Sequence[tuple[str, str]], domain: tuple[float, float], axis: str, label: str
) -> Markup:
    """Draws it.

    Args:
        rows: Organisms first, then controls.
        columns: Heading and second line of each.
        domain: Values of the palest and the strongest colour.
        axis: What the columns are.
        label: Read out in place of the drawing.
    """
    width = width_of(len(columns))
    cell = min(WIDEST, (width - LABEL) / max(len(columns), 1))
    top = 40.0
    parts = [svg.text(0, 14, "mix ratio", "axis-label"), svg.text(LABEL, 14, axis, "axis-label")]
    for index, (heading, detail) in enumerate(columns):
        x = LABEL + cell * (index + 0.5)
        parts += [svg.text(x, top - 4, heading, "tick strong", "middle")]
        if detail:
            parts.append(svg.text(x, top + 10, detail, "tick", "middle"))
    y = top + 18
    for index, row in enumerate(rows):
        if index and row.is_control and not rows[index - 1].is_control:
            parts.append(svg.line(0, y + GAP / 2, LABEL + cell * len(columns), y + GAP / 2, "apart"))
            y += GAP
        parts += [svg.text(0, y + 27, svg.clipped(row.label, 16), "row-label strong")]
        parts += [svg.text(0, y + 43, svg.clipped(row.detail, 18), "tick")]
        for place, one in enumerate(row.cells):
            parts.append(_cell(one, LABEL + cell * place, y, cell, domain))
        y += HEIGHT
    return svg.drawing(max(width, LABEL + cell * len(columns)), y + 4, label, *parts)


def _cell(cell: HeatCell | str, x: float, y: float, width: float, domain: tuple[float, float]) -> Markup:
    left, top, w, h = x + 1.5, y + 1.5, width - 3, HEIGHT - 3
    centre = x + width / 2
    if isinstance(cell, str):
        words = svg.clipped(cell, round(width / 6.2))
        return svg.rect(left, top, w, h, "absent", 4) + svg.text(centre, y + 35, words, "tick", "middle")
    shade = round((cell.value - domain[0]) / (domain[1] - domain[0]) * (STEPS - 1))
    shade = min(max(shade, 0), STEPS - 1)
    parts = [svg.rect(left, top, w, h, f"heat h{shade}", 4)]
    if not cell.established:
        parts.append(svg.rect(left, top, w, h, "hatched", 4))
    else:
        parts.append(svg.rect(left + 1, top + 1, w - 2, h - 2, "beats", 3))
    if cell.leaks:
        parts.append(svg.polygon([(left + w - 17, top), (left + w, top), (left + w, top + 17)], "leak"))
        parts.append(svg.text(left + w - 5.5, top + 9, "L", "leak-letter", "middle"))
    control = f"control {number(cell.control)}" if cell.control is not None else "no control"
    lines = [f"null {number(cell.null_95)}", *([] if cell.is_control else [control])]
    ink = f"ink{shade} halo h{shade}"
    shown = safe(number(cell.value))
    if cell.seeds > 1:
        shown += svg.element("tspan", f"{cell.readable}/{cell.seeds}", dx=5, class_="heat-note")
    parts.append(svg.text(centre, y + 24, shown, f"heat-value {ink}", "middle"))
    for place, words in enumerate(lines):
        parts.append(svg.text(centre, y + 39 + 13 * place, words, f"heat-note {ink}", "middle"))
    return Markup("").join(parts)


def key(domains: Sequence[tuple[str, tuple[float, float]]]) -> Markup:
    """What colour, hatching, outline and corner mean.

    Args:
        domains: Metric, and the values of its palest and strongest colour.
    """
    items = []
    for metric, (low, high) in domains:
        ramp = Markup("").join(svg.rect(14 * i, 0, 14, 14, f"heat h{i}") for i in range(STEPS))
        swatch = svg.element("svg", ramp, width=14 * STEPS, height=14, aria_hidden="true")
        items.append(Markup("{} {} {} {}").format(safe(metric), number(low), swatch, number(high)))
    box = svg.rect(1, 1, 24, 14, "heat h3", 3)
    hatched = svg.element("svg", box, svg.rect(1, 1, 24, 14, "hatched", 3), width=26, height=16, aria_hidden="true")
    outlined = svg.element("svg", box, svg.rect(2, 2, 22, 12, "beats", 2), width=26, height=16, aria_hidden="true")
    corner = svg.element(
        "svg",
        svg.rect(1, 1, 24, 14, "heat h3", 3),
        svg.polygon([(11, 1), (25, 1), (25, 15)], "leak"),
        width=26,
        height=16,
        aria_hidden="true",
    )
    absent = svg.element("svg", svg.rect(1, 1, 24, 14, "absent", 3), width=26, height=16, aria_hidden="true")
    items += [
        outlined + safe("readable: beats the 95th percentile of its null, and the control"),
        hatched + safe("not established"),
        corner + safe("leaks: unsteered text already shows the subject"),
        absent + safe("no numbers"),
    ]
    return Markup('<div class="legend">{}</div>').format(
        Markup("").join(Markup("<span>{}</span>").format(item) for item in items)
    )
