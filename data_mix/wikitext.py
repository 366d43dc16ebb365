"""Plain paragraphs from the source text of a Wikipedia article."""

import html
import re
from collections.abc import Callable

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_REFERENCE = re.compile(r"<ref[^>/]*/>|<ref[^>]*>.*?</ref>", re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(
    r"<(gallery|timeline|imagemap|source|syntaxhighlight|pre)[^>]*>.*?</\1>", re.DOTALL | re.IGNORECASE
)
_UNREADABLE = re.compile(r"<(math|code|chem|score|nowiki|hiero)\b", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\|).)*?\n\s*\|\}", re.DOTALL)
_MEDIA = re.compile(
    r"\[\[\s*(?:File|Image|Category|Media|[a-z-]{2,12})\s*:(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.IGNORECASE
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_URL = re.compile(r"\[(?:https?:)?//[^\s\]]+\s*([^\]]*)\]")
_QUOTES = re.compile(r"'{2,}")
_HEADING = re.compile(r"^=+.*=+\s*$")
_HOLLOW = re.compile(r"\(\s*[,;:\s]*\)|\(\s*[,;]\s*")
_SPACE_BEFORE = re.compile(r"\s+([,.;:)])")
_DOUBLED = re.compile(r"([,;])\s*(?=[,.;])")
_MIN_WORDS = 20


def paragraphs(wikitext: str) -> list[str]:
    """The prose paragraphs of an article, in order.

    Dropped: templates (except units and foreign words, which are kept as text), references, tables, files, headings,
    list items, and paragraphs with formulas or code in them.

    Args:
        wikitext: The article's source, XML entities already resolved.
    """
    text = _COMMENT.sub("", wikitext)
    text = _REFERENCE.sub("", text)
    text = _BLOCK.sub("", text)
    text = _until_stable(_TEMPLATE, lambda match: _template(match.group(1)), text)
    text = _until_stable(_TABLE, lambda match: "", text)
    text = _until_stable(_MEDIA, lambda match: "", text)
    return [clean for line in text.split("\n") if (clean := _clean(line))]


def _clean(line: str) -> str:
    if _HEADING.match(line) or not line.strip() or line.lstrip()[0] in "*#:;|!{}<=" or _UNREADABLE.search(line):
        return ""
    line = _LINK.sub(r"\1", line)
    line = _URL.sub(r"\1", line)
    line = _QUOTES.sub("", _TAG.sub("", line))
    line = html.unescape(line).replace("\u00a0", " ")
    line = _HOLLOW.sub(lambda match: "" if match.group().endswith(")") else "(", line)
    line = _DOUBLED.sub("", _SPACE_BEFORE.sub(r"\1", line))
    line = re.sub(r"\s+", " ", line).strip()
    broken = any(mark in line for mark in ("{{", "}}", "[[", "]]", "{|", "|}"))
    return "" if broken or len(line.split()) < _MIN_WORDS else line


def _template(body: str) -> str:
    name, *arguments = (part.strip() for part in body.split("|"))
    match name.lower(), [argument for argument in arguments if "=" not in argument]:
        case ("convert" | "cvt", [amount, unit, *_]):
            return f"{amount} {unit}"
        case ("lang", [_, words, *_]) | ("nowrap" | "nihongo" | "transl", [words, *_]):
            return words
        case ("ndash" | "en dash" | "spaced ndash" | "snd", _):
            return " \u2013 "
        case _:
            return ""


def _until_stable(pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str], text: str) -> str:
    while True:
        text, count = pattern.subn(replacement, text)
        if not count:
            return text
