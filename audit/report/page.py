"""HTML: escaping, templates, tables and figures.

Everything between two tags goes through `visible` and then through jinja2's autoescape, whoever wrote it. The page's
content security policy forbids scripts and every request, should something slip through.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from audit.report import wording
from audit.report.parse import well_formed

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
"""Control characters, and those that turn or hide the text around them."""

WORD = re.compile(r"[^\W\d_]{3,}")
LONG_TEXT = 1500
LONG_TOKEN = 60


@dataclass(frozen=True)
class Table:
    """A table; cells are text or Markup.

    Attributes:
        header: One cell a column.
        rows: Cells; the last of a short row spans the rest.
        numeric: Columns from this one on are numbers, set to the right.
        classes: A class for each row, or none.
        groups: A row over the header: text and the columns under it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: int = 1
    classes: Sequence[str] = ()
    groups: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Figure:
    """A drawing, what it shows, and the same as a table.

    Attributes:
        svg: The drawing.
        title: Short.
        caption: What is what.
        table: Text alternative.
        legend: HTML over the drawing.
        style: CSS of the figure's box.
    """

    svg: Markup
    title: str
    caption: str
    table: Table
    legend: Markup = field(default_factory=Markup)
    style: str = ""


def visible(text: str) -> str:
    """Text with control, bidirectional and zero-width characters spelled out, so that none can act on the page."""
    return _HIDDEN.sub(_spell, well_formed(text))


def _spell(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"


def safe(text: str) -> Markup:
    """Escaped text, as Markup."""
    return text if isinstance(text, Markup) else escape(visible(text))


def token(text: str) -> str:
    """A token as a chip shows it: spaces and line breaks visible, at most `LONG_TOKEN` characters."""
    shown = text[:LONG_TOKEN].replace("\n", "↵").replace("\t", "⇥").replace(" ", "\N{OPEN BOX}") or "(empty)"
    return shown if len(text) <= LONG_TOKEN else f"{shown}… ({wording.count(len(text))} characters)"


def prose(text: str, words: frozenset[str] = frozenset()) -> Markup:
    """Generated text with the organism's words marked; what goes beyond `LONG_TEXT` characters is folded, not cut.

    Args:
        text: As generated.
        words: Lower case.
    """
    head, tail = text[:LONG_TEXT], text[LONG_TEXT:]
    shown = Markup('<bdi class="prose">{}</bdi>').format(_marked(head, words))
    if tail:
        shown += Markup('<details><summary>{} more characters</summary><bdi class="prose">{}</bdi></details>').format(
            wording.count(len(tail)), _marked(tail, words)
        )
    return shown


def _marked(text: str, words: frozenset[str]) -> Markup:
    parts, end = [], 0
    for match in WORD.finditer(text):
        if match.group().lower() in words:
            parts += [safe(text[end : match.start()]), Markup("<mark>{}</mark>").format(safe(match.group()))]
            end = match.end()
    return Markup("").join([*parts, safe(text[end:])])


def badge(text: str, kind: str) -> Markup:
    """A small label; `kind` is good, bad, warn or quiet."""
    return Markup('<span class="badge {}">{}</span>').format(kind, safe(text))


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("audit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions: dict[str, Callable[..., Any]] = {
        name: getattr(wording, name)
        for name in (
            "bounds", "count", "duration", "interval", "metric_name", "name_of", "number", "p_value", "plural",
            "ratio_name", "short_name", "signed",
        )
    }  # fmt: skip
    environment.globals.update(functions, token=token, badge=badge, prose=prose)
    environment.globals["style"] = Markup(
        files("audit.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    )
    return environment


def render(template: str, **values: Any) -> str:
    """A page from a template of this package."""
    return _environment().get_template(template).render(**values)
