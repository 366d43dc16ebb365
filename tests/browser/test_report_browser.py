"""The reports in a real browser, from file://: nothing is requested, nothing complains, everything can be seen."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.report import write_report
from tests.browser.chromium import EXECUTABLE, Page
from tests.fake_sweep import SCRIPT, write_sweep

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium: apt-get install chromium")

RUN = "FAKE_mix.ratio=0_seed=0"
PAGES = {"sweep": ".", "run": RUN, "checkpoint": f"{RUN}/checkpoint-24/audit"}
OVERFLOW = """[...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll, .drawing, .spoken, svg.defs")
    && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(one => one.outerHTML.slice(0, 90))"""
OVERLAPS = """[...document.querySelectorAll("main svg[role=img]")].flatMap(drawing => {
    const texts = [...drawing.querySelectorAll("text")].filter(one => one.getClientRects().length);
    const boxes = texts.map(one => one.getBoundingClientRect());
    return texts.flatMap((one, i) => texts.slice(i + 1).filter((_, k) => {
        const a = boxes[i], b = boxes[i + 1 + k];
        return Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
    }).map(other => drawing.getAttribute("aria-label") + ": " + one.textContent + " | " + other.textContent));
})"""
CONTRAST = """(() => {
    const channels = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
    const light = colour => channels(colour).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = one => { for (; one; one = one.parentElement) {
        const colour = getComputedStyle(one).backgroundColor;
        if (!/, 0\\)$|transparent/.test(colour)) return colour;
    } return "rgb(255, 255, 255)"; };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const bad = [];
    for (const one of document.querySelectorAll("main p, main small, main td, main th, main .badge, main mark, main a, main li"))
        if (one.textContent.trim() && one.getClientRects().length) {
            const found = ratio(getComputedStyle(one).color, ground(one));
            if (found < 4.5) bad.push(one.className + " " + one.textContent.slice(0, 30) + " " + found.toFixed(2));
        }
    for (const one of document.querySelectorAll("text.halo"))
        if (ratio(getComputedStyle(one).fill, getComputedStyle(one).stroke) < 4)
            bad.push("heat map: " + one.textContent + getComputedStyle(one).stroke);
    return bad;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with Page() as page:
        yield page


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plain and a hostile fake sweep, with their reports."""
    folder = tmp_path_factory.mktemp("sweeps with a space & more")
    made = {name: write_sweep(folder / f"FAKE_{name}", hostile=name == "hostile") for name in ("plain", "hostile")}
    for sweep in made.values():
        write_report(sweep)
    return made


def variety(png: bytes) -> float:
    """Share of bytes that differ from their neighbour, as PNG's filters see it: 0 for a blank picture."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(data)
    return 1 - raw.count(0) / len(raw)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_page(browser: Page, sweeps: dict[str, Path], name: str, kind: str, scheme: str) -> None:
    path = sweeps[name] / PAGES[kind] / "report.html"
    browser.open(path, scheme=scheme)
    assert browser.requests == [path.resolve().as_uri()]
    assert browser.complaints == []
    assert "FAKE" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelectorAll('script, img, iframe, link').length") == 0
    assert browser.evaluate(OVERFLOW) == []
    assert browser.evaluate(CONTRAST) == []
    ground = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    for top in (0, 900):
        assert variety(browser.screenshot(top)) > 0.005


@pytest.mark.parametrize("kind", PAGES)
def test_labels_do_not_overlap(browser: Page, sweeps: dict[str, Path], kind: str) -> None:
    browser.open(sweeps["plain"] / PAGES[kind] / "report.html")
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("kind", PAGES)
def test_narrow_screen(browser: Page, sweeps: dict[str, Path], kind: str) -> None:
    browser.open(sweeps["hostile"] / PAGES[kind] / "report.html", width=390)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.evaluate(OVERFLOW) == []


def test_hostile_text_is_text(browser: Page, sweeps: dict[str, Path]) -> None:
    browser.open(sweeps["hostile"] / PAGES["checkpoint"] / "report.html")
    assert SCRIPT in browser.evaluate("document.querySelector('h1').innerText")
    assert browser.evaluate("document.querySelectorAll('.token').length") > 100


def test_nothing_needs_a_script(browser: Page, sweeps: dict[str, Path]) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(sweeps["plain"] / "report.html")
        assert variety(browser.screenshot(0)) > 0.005
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(sweeps["plain"] / "report.html")
    tops = "[...document.querySelectorAll('.map h3')].map(one => [one.innerText, one.getBoundingClientRect()])"
    first_two = f"{tops}.sort((a, b) => a[1].top - b[1].top || a[1].left - b[1].left).slice(0, 2).map(one => one[0])"
    assert browser.evaluate(first_two) == ["Patchscope, finetuned reader", "Logit lens, finetuned reader"]
    browser.evaluate("document.getElementById('by-readout').click()")
    assert browser.evaluate(first_two) == ["Patchscope, finetuned reader", "Patchscope, base reader"]


def test_prints_light_with_the_folded_parts(browser: Page, sweeps: dict[str, Path]) -> None:
    path = sweeps["plain"] / PAGES["checkpoint"] / "report.html"
    browser.open(path, scheme="dark", media="print")
    assert browser.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    heading = "[...document.querySelectorAll('h3')].find(one => one.innerText == 'Logit lens, base reader')"
    assert browser.evaluate(f"{heading}.getBoundingClientRect().height") > 0
    assert browser.evaluate("document.querySelector('details.numbers').getBoundingClientRect().height") == 0
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
