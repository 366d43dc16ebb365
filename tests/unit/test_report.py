import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from audit.errors import AuditError
from audit.report import (
    collect,
    columns,
    heatmap,
    svg,
    wording,
    write_checkpoint_report,
    write_report,
    write_run_report,
    write_sweep_report,
)
from audit.report.page import token, visible
from audit.report.parse import build
from audit.report.rows import Row
from audit.report.schema import Audit, Interval
from audit.report.seeds import over_seeds
from tests import fake_sweep
from tests.fake_sweep import HOSTILE, LONG_WORD, write_json, write_lines, write_sweep

ROOT = Path(__file__).resolve().parents[2]
UNMIXED, HALF, DOUBLE = (f"FAKE_mix.ratio={ratio}_seed=0" for ratio in ("0", "0.5", "2"))
CONTROL = "control_FAKE_mix.ratio=0_seed=0"
PATCHSCOPE = "patchscope/finetuned/relevance"
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order, all visible text, all links."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.open, self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub("[ \n\N{NO-BREAK SPACE}]+", " ", " ".join(self.texts))


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("report.html"))


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "report.json").read_text(encoding="utf-8"))["rows"]
    return found


def edit(folder: Path, change: Any) -> None:
    """Changes an audit.json in place."""
    path = folder / "audit" / "audit.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    write_json(path, record)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake sweep with its reports, made by the command line; tests only read it."""
    folder = write_sweep(tmp_path_factory.mktemp("made") / "FAKE sweep")
    command = [sys.executable, "-m", "audit.report", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{folder / 'report.html'}\n"
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A fake sweep without reports, to be changed."""
    return write_sweep(tmp_path / "FAKE_sweep")


def test_every_page_is_written_and_every_link_leads_somewhere(made: Path) -> None:
    assert len(pages(made)) == 1 + 4 + 12
    for path in pages(made):
        page = Page(path)
        assert page.links or path.parent.name == "FAKE sweep"
        for link in page.links:
            assert (path.parent / unquote(link)).is_file(), (path, link)


def test_pages_are_self_contained(made: Path) -> None:
    for path in pages(made):
        page = Page(path)
        assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
        assert not [a for a in page.attributes if a[1].startswith("on") or a[1] in ("src", "srcset", "action")]
        source = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in source
        assert not re.search(r"https?://|url\((?!#)|@import|javascript:", source)


def test_report_is_a_pure_function_of_the_files(sweep: Path) -> None:
    write_report(sweep)
    first = {path: path.read_bytes() for path in sweep.rglob("report.*")}
    write_report(sweep)
    assert first == {path: path.read_bytes() for path in sweep.rglob("report.*")}


def test_checkpoint_page_says_who_read_what(made: Path) -> None:
    text = Page(made / UNMIXED / "checkpoint-24" / "audit" / "report.html").text
    for words in (
        "FAKE verdict: readable by 8 of 8 readouts.",
        "This checkpoint leaks.",
        "Patchscope, finetuned reader",
        "Logit lens, base reader",
        "Steered by the difference",
        "attention sink",
        "The norm is never used as readability.",
        "Perplexity, held-out text",
        "base 0.42",
        "after block 14 of 30",
        "finetuned 165, base 165",
    ):
        assert words in text, words
    clean = Page(made / HALF / "checkpoint-9" / "audit" / "report.html").text
    assert "leaks." not in clean
    assert "This is a control" in Page(made / CONTROL / "checkpoint-6" / "audit" / "report.html").text


def test_relevant_tokens_and_words_are_marked(made: Path) -> None:
    source = (made / UNMIXED / "checkpoint-24" / "audit" / "report.html").read_text(encoding="utf-8")
    record = json.loads((made / UNMIXED / "checkpoint-24" / "audit" / "audit.json").read_text(encoding="utf-8"))
    relevant = sum(t["relevant"] for r in record["readouts"] for p in r["by_position"] for t in p.get("tokens", []))
    assert source.count('class="token relevant"') == relevant > 0
    assert "<mark>" in source


def test_position_0_has_an_axis_of_its_own(made: Path) -> None:
    source = (made / UNMIXED / "checkpoint-24" / "audit" / "report.html").read_text(encoding="utf-8")
    assert source.count('class="bar sink"') == 1
    assert source.count('class="bar"') == 4


def test_each_figure_has_a_text_alternative(made: Path) -> None:
    for path in pages(made):
        page = Page(path)
        drawings = [a for a in page.attributes if a[:2] == ("svg", "role") and a[2] == "img"]
        labels = [a for a in page.attributes if a[:2] == ("svg", "aria-label") and a[2]]
        tables = [a for a in page.attributes if a[:2] == ("details", "class") and a[2] == "numbers"]
        assert len(drawings) == len(labels) == page.tags["figure"] == len(tables)


def test_run_page(made: Path) -> None:
    text = Page(made / HALF / "report.html").text
    for words in (
        "Last audited checkpoint, step 36",
        "mix ratio 1 : 0.5",
        "Training loss",
        "Realised ratio",
        "8 rows",
    ):
        assert words in text, words
    assert [row["step"] for row in rows(made / HALF)] == [9, 18, 36]
    assert all(row["headlines"][PATCHSCOPE]["control"] is None for row in rows(made / HALF))


def test_sweep_page(made: Path) -> None:
    text = Page(made / "report.html").text
    for words in (
        "At exposure 24\u202f000 (organism loss tokens), the last with all ratios",
        "by 8 of 8 readouts (finetuned reader 4, base reader 4) at 1 : 0 (unmixed)",
        "at 1 : 2",
        "Readability by mix ratio and exposure",
        "null 0.15",
        "One seed: the band is the 95 % bootstrap interval",
        "1 checkpoint leaks",
        "The control as a null",
        "same ratio and step",
        "same exposure",
        "72 readings; at the 5 % level about 3.60",
    ):
        assert words in text, words
    assert text.index("At exposure") < text.index("Readability by mix") < text.index("All checkpoints")
    assert text.index("All checkpoints") < text.index("Curves") < text.index("Behaviour against readability")


def test_sweep_rows_hold_every_number_of_the_audits(made: Path) -> None:
    found = rows(made)
    assert len(found) == 12
    assert [row["control"] for row in found].count(True) == 3
    for row in found:
        record = json.loads((made / row["checkpoint"] / "audit" / "audit.json").read_text(encoding="utf-8"))
        assert (row["ratio"], row["step"], row["seed"]) == tuple(
            record["subject"][k] for k in ("ratio", "step", "seed")
        )
        for readout in record["readouts"]:
            key = f"{readout['readout']}/{readout['reader']}/{readout['metric']}"
            mine = row["headlines"][key]
            assert mine["beats_null"] == readout["headline"]["readable"]
            assert {k: mine[k] for k in ("value", "low", "high", "null_95", "p_value")} == {
                k: readout["headline"][k] for k in ("value", "low", "high", "null_95", "p_value")
            }
        assert row["behaviour"].keys() == {one["metric"] for one in record["behaviour"]}
        assert row["leakage"]["finetuned"] == record["leakage"]["finetuned"]


def test_a_control_at_the_same_ratio_and_step_wins_over_one_at_the_same_exposure(made: Path) -> None:
    by = {
        (row["ratio"], row["step"]): row["headlines"][PATCHSCOPE]["control"]
        for row in rows(made)
        if not row["control"]
    }
    assert by[0.0, 24] == {
        "value": 0.05,
        "low": 0.0,
        "high": 0.1,
        "cell": CONTROL,
        "step": 24,
        "exposure": 24000,
        "matched_by": "ratio and step",
    }
    assert (by[2.0, 72]["matched_by"], by[2.0, 72]["step"], by[2.0, 72]["exposure"]) == ("exposure", 24, 24000)


def test_readable_needs_to_beat_the_control_too(sweep: Path) -> None:
    def raise_control(record: dict[str, Any]) -> None:
        for readout in record["readouts"]:
            readout["headline"]["value"] = 0.45

    edit(sweep / CONTROL / "checkpoint-24", raise_control)
    write_sweep_report(sweep)
    verdicts = {
        row["ratio"]: row["headlines"][PATCHSCOPE]
        for row in rows(sweep)
        if row["exposure"] == 24000 and not row["control"]
    }
    assert (verdicts[0.0]["beats_null"], verdicts[0.0]["readable"]) == (True, True)
    assert (verdicts[0.5]["beats_null"], verdicts[0.5]["readable"]) == (True, False)


def test_of_several_matching_controls_the_largest_value_counts(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "FAKE", seeds=(0, 1))
    edit(
        folder / "control_FAKE_mix.ratio=0_seed=1" / "checkpoint-6",
        lambda r: r["readouts"][1]["headline"].update(value=0.31),
    )
    write_sweep_report(folder)
    first = next(row for row in rows(folder) if row["ratio"] == 2.0 and row["seed"] == 0)
    control = first["headlines"][PATCHSCOPE]["control"]
    assert (control["value"], control["cell"]) == (0.31, "control_FAKE_mix.ratio=0_seed=1")


def test_without_a_control_the_report_says_so(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "FAKE", control=False)
    text = Page(write_report(folder)).text
    assert "no audited control, so every verdict rests on random directions alone" in text
    assert all(head["control"] is None for row in rows(folder) for head in row["headlines"].values())


def test_seeds_are_averaged_and_counted(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "FAKE", seeds=(0, 1, 2))
    text = Page(write_sweep_report(folder)).text
    assert "a 95 % t-interval of the mean over up to 3 seeds" in text
    assert "3/3" in text.replace(" ", "")
    assert "readable in 3 of 3 seeds" in text


def test_unsealed_failed_unaudited_and_missing_checkpoints_are_listed(sweep: Path) -> None:
    (sweep / HALF / "checkpoint-18" / "SEALED.json").unlink()
    shutil.rmtree(sweep / HALF / "checkpoint-36" / "audit")
    shutil.rmtree(sweep / DOUBLE / "checkpoint-72")
    (sweep / UNMIXED / "checkpoint-12" / "adapter_model.safetensors").unlink()
    failed = {"schema": 1, "status": "failed", "error": f"RuntimeError: {HOSTILE}\n  more", "subject": {}}
    write_json(sweep / DOUBLE / "checkpoint-36" / "audit" / "audit.json", failed)
    lines = (sweep / "manifest.jsonl").read_text(encoding="utf-8")
    late = {"name": "FAKE_mix.ratio=8_seed=0", "overrides": ["mix.ratio=8", "seed=0"], "status": "pending"}
    lines = lines.replace('"status": "done"', '"status": "failed"', 1)
    (sweep / "manifest.jsonl").write_text(lines + json.dumps(late) + "\n", encoding="utf-8")
    text = Page(write_report(sweep)).text
    states = {(row["cell"], row["exposure"]): (row["state"], row["reason"]) for row in rows(sweep)}
    assert states[HALF, 12000][0] == "unsealed"
    assert states[HALF, 12000][1] == "unsealed, not audited: no SEALED.json: saving it was interrupted"
    assert states[UNMIXED, 12000][1] == "unsealed, not audited: adapter_model.safetensors is missing"
    assert states[HALF, 24000] == ("not audited", "not audited")
    assert states[DOUBLE, 12000][0] == "failed"
    assert states[DOUBLE, 24000] == ("missing", "no checkpoint at this exposure")
    assert states["FAKE_mix.ratio=8_seed=0", 6000] == ("missing", "the cell has not started")
    assert len(rows(sweep)) == 15
    for words in ("Something failed.", f"cell {UNMIXED} failed", "audit failed", "where 3 of 4 ratios have numbers"):
        assert words in text, words
    for words in ("unsealed, not audited", "the cell has not started", "8 of 15 checkpoints have no numbers."):
        assert words in text, words
    page = Page(sweep / DOUBLE / "checkpoint-36" / "audit" / "report.html").text
    assert "The audit failed" in page and "checkpoint-36" in page
    assert "1 audit failed." in Page(sweep / DOUBLE / "report.html").text


def test_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    folder = tmp_path / "FAKE"
    write_lines(folder / "manifest.jsonl", [{"name": "a", "overrides": ["mix.ratio=0"], "status": "pending"}])
    (folder / "a").mkdir()
    (folder / "a" / "recipe.yaml").touch()
    text = Page(write_report(folder)).text
    assert "nothing to conclude" in text and "the cell has not started" in text
    assert "No checkpoint of this run has a finished audit yet." in Page(folder / "a" / "report.html").text


def test_an_audit_without_an_organism_is_shown_and_not_graded(tmp_path: Path) -> None:
    record = fake_sweep.audit(run="r", control=False, ratio=0.0, seed=0, step=1, steps=1, exposure=1, total=1)
    nothing: dict[str, Any] = dict.fromkeys(("organism", "run", "step", "steps", "ratio", "share", "seed", "exposure"))
    record["subject"] |= nothing
    record |= {"vocabulary": [], "leakage": None, "behaviour": [], "collateral": [], "warnings": ["no organism"]}
    record["readouts"] = [r for r in record["readouts"] if r["readout"] != "steering"]
    for readout in record["readouts"]:
        readout |= {"headline": None, "groups": {}, "decoys": {}}
        for position in readout["by_position"]:
            position |= {"value": None, "low": None, "high": None, "base_mean": None, "finetuned_mean": None}
            for one in position["tokens"]:
                one["relevant"] = None
    record["verdict"] = {"readable_by": [], "sentence": "Nothing was graded.", "leaks": False}
    write_json(tmp_path / "anything" / "audit.json", record)
    text = Page(write_report(tmp_path / "anything")).text
    assert "its readouts are shown and not graded" in text and "No samples: steering was switched off" in text


def test_hostile_text_is_inert_and_visible(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "FAKE", hostile=True)
    write_report(folder)
    for path in pages(folder):
        page = Page(path)
        assert not page.tags.keys() & {"script", "img"}
        source = path.read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", source)
        assert "<script" not in source and "onerror=alert(1)>" not in source.replace("onerror=alert(1)&gt;", "")
    page = Page(folder / UNMIXED / "checkpoint-24" / "audit" / "report.html")
    assert "</script><img src=x onerror=alert(1)> ⟨U+202E⟩desrever⟨U+202C⟩ ⟨U+0000⟩⟨U+001B⟩[31m &amp;" in page.text
    assert "\ufffd" in page.text and "مرحبا" in page.text
    assert "(10\u202f000 characters)" in page.text
    assert "more characters" in page.text
    json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_hostile_names_stay_within_their_links(tmp_path: Path) -> None:
    name = 'javascript:alert(1)"><b>&?#'
    folder = tmp_path / "FAKE"
    fake_sweep.write_run(folder / name, ratio=0.0, seed=0, control=False)
    write_lines(folder / "manifest.jsonl", [{"name": name, "overrides": [f"a={HOSTILE}"], "status": HOSTILE}])
    page = Page(write_report(folder))
    assert "b" not in {tag for tag, *_ in page.attributes}
    assert all(link.startswith("./javascript%3Aalert") for link in page.links)


def test_visible_and_token() -> None:
    assert visible("a\x00\u202eb\ud800\n\t") == "a⟨U+0000⟩⟨U+202E⟩b\ufffd\n\t"
    assert visible("مرحبا \N{FAMILY}") == "مرحبا \N{FAMILY}"
    assert token(" a\n") == "\N{OPEN BOX}a↵"
    assert token("") == "(empty)"
    assert len(token(LONG_WORD)) < 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["readouts"][0]["headline"].pop("null_95"), "readouts[0].headline.null_95 is missing"),
        (lambda r: r["subject"].pop("exposure"), "subject.exposure is missing"),
        (lambda r: r["verdict"].update(sentence=3), "verdict.sentence should be a text, not 3"),
        (lambda r: r["leakage"]["base"].update(value=float("nan")), "leakage.base.value should be a finite number"),
        (lambda r: r["behaviour"].__setitem__(0, []), "behaviour[0] should be an object, not []"),
        (lambda r: r["difference"]["positions"][1].update(position=True), "positions[1].position should be a whole"),
        (lambda r: r.update(schema=2), "is not an audit of schema 1"),
        (lambda r: r.update(status="half"), "status should be 'complete' or 'failed'"),
    ],
)
def test_a_damaged_audit_is_an_error_that_names_file_and_key(sweep: Path, change: Any, words: str) -> None:
    edit(sweep / UNMIXED / "checkpoint-6", change)
    for write, folder in (
        (write_checkpoint_report, sweep / UNMIXED / "checkpoint-6" / "audit"),
        (write_run_report, sweep / UNMIXED),
        (write_sweep_report, sweep),
    ):
        with pytest.raises(AuditError) as error:
            write(folder)
        assert words in str(error.value)
        assert str(sweep / UNMIXED / "checkpoint-6" / "audit" / "audit.json") in str(error.value)


def test_other_damaged_files(sweep: Path) -> None:
    audit = sweep / UNMIXED / "checkpoint-6" / "audit" / "audit.json"
    audit.write_text("{", encoding="utf-8")
    with pytest.raises(AuditError, match=r"audit.json is not JSON \(line 1"):
        write_report(sweep)
    log = sweep / HALF / "log.jsonl"
    log.write_text('{"step": 1}\n', encoding="utf-8")
    with pytest.raises(AuditError, match=r"log.jsonl: line 1.loss is missing"):
        write_run_report(sweep / HALF)
    log.write_text("{}}\n{}\n", encoding="utf-8")
    with pytest.raises(AuditError, match=r"log.jsonl, line 1: not JSON"):
        write_run_report(sweep / HALF)
    write_json(sweep / HALF / "mix.json", {"schema": 1})
    log.unlink()
    with pytest.raises(AuditError, match=r"mix.json: requested is missing"):
        write_run_report(sweep / HALF)


def test_a_log_line_that_a_kill_cut_off_is_left_out(sweep: Path) -> None:
    log = sweep / HALF / "log.jsonl"
    log.write_text(log.read_text(encoding="utf-8") + '{"step": 37, "lo', encoding="utf-8")
    assert len(collect.load_run(sweep / HALF).log) == 36
    write_run_report(sweep / HALF)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "SEALED.json is not JSON"),
        ("[]", "SEALED.json is of another version"),
        ('{"schema": 1, "step": 7, "sha256": {}}', "SEALED.json belongs to step 7"),
        ('{"schema": 1, "step": 6, "sha256": {"gone": "0"}}', "gone is missing"),
    ],
)
def test_an_invalid_seal_is_none(sweep: Path, content: str, fault: str) -> None:
    folder = sweep / UNMIXED / "checkpoint-6"
    (folder / "SEALED.json").write_text(content, encoding="utf-8")
    checkpoint = collect.load_checkpoint(folder)
    assert (checkpoint.state, checkpoint.error, checkpoint.audit) == ("unsealed", fault, None)


def test_command_line_refuses_what_it_cannot_report_on(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no", "does not exist"), (tmp_path, "is not something to report on")):
        command = [sys.executable, "-m", "audit.report", str(path)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: {path} ") and words in result.stderr
        assert result.stdout == ""
    with pytest.raises(AuditError, match="is not a run"):
        write_run_report(tmp_path)


def test_detection(sweep: Path) -> None:
    checkpoint = sweep / UNMIXED / "checkpoint-6"
    for path in (checkpoint, checkpoint / "audit", checkpoint / "audit" / "audit.json"):
        assert write_report(path) == checkpoint / "audit" / "report.html"
    assert write_report(sweep / UNMIXED) == sweep / UNMIXED / "report.html"
    (sweep / "manifest.jsonl").unlink()
    assert write_report(sweep) == sweep / "report.html"
    assert len(rows(sweep)) == 12


def test_importing_the_reports_loads_nothing_heavy() -> None:
    code = "import sys, audit.report; print(sorted({'torch', 'transformers', 'numpy', 'scipy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def row(cell: str, ratio: float, step: int, exposure: int) -> Row:
    return Row(cell, "", False, ratio, None, 0, step, exposure, "complete")


def test_columns_of_equal_exposure_never_hold_two_checkpoints_of_a_run() -> None:
    dense = [row("a", 0, step, 1000 * step) for step in range(1, 51)]
    sparse = [row("b", 1, 2 * step, 1000 * step + 9) for step in (10, 20, 50)]
    found = columns.columns([*dense, *sparse], "exposure")
    assert len(found) == 50
    for column in found:
        assert sum(column.holds(one.exposure) for one in dense) == 1
    assert [column.cells for column in found].count(2) == 3


def test_exposures_one_optimizer_step_apart_are_equal() -> None:
    coarse = [row("a", 0, step, 1000 * step) for step in (6, 12, 24)]
    fine = [row("b", 8, 9 * step, exposure) for step, exposure in ((5, 5100), (11, 11950), (24, 24000))]
    found = columns.columns([*coarse, *fine], "exposure")
    assert [(column.low, column.high, column.cells) for column in found] == [
        (5100, 6000, 2),
        (11950, 12000, 2),
        (24000, 24000, 2),
    ]
    assert [column.label for column in found] == ["5.1k\N{EN DASH}6k", "11.9k", "24k"]
    exposures = columns.Exposures([*coarse, *fine])
    assert exposures.equal(coarse[0], fine[0]) and not exposures.equal(coarse[1], fine[0])


def test_the_better_filled_axis_is_chosen(made: Path) -> None:
    assert json.loads((made / "report.json").read_text(encoding="utf-8"))["axis"] == "exposure"
    by_exposure = [
        row(name, ratio, step * (1 + ratio), 100 * step) for name, ratio in (("a", 0), ("b", 2)) for step in (1, 2)
    ]
    by_step = [
        row(name, ratio, step, 100 * step // (1 + ratio)) for name, ratio in (("a", 0), ("b", 2)) for step in (1, 3)
    ]
    assert columns.filled(by_exposure, "exposure") > columns.filled(by_exposure, "step")
    assert columns.filled(by_step, "step") > columns.filled(by_step, "exposure")


def test_cells_that_differ_in_more_than_ratio_and_seed_are_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "FAKE"
    lines = []
    for rank in (4, 16):
        for control in (False, True):
            name = f"{'control_' if control else ''}lora.r={rank}"
            fake_sweep.write_run(folder / name, ratio=0.0, seed=0, control=control)
            lines.append({"name": name, "overrides": [f"lora.r={rank}", "mix.ratio=0"], "status": "done"})
    write_lines(folder / "manifest.jsonl", lines)
    text = Page(write_sweep_report(folder)).text
    assert {row["group"] for row in rows(folder)} == {"lora.r 4", "lora.r 16"}
    for one in rows(folder):
        if not one["control"]:
            assert one["headlines"][PATCHSCOPE]["control"]["cell"] == f"control_{one['cell']}"
    assert "lora.r 4: at exposure" in text


def test_over_seeds() -> None:
    def one(value: float) -> Interval:
        return Interval(value, value - 0.1, value + 0.1)

    assert over_seeds([one(0.5)]) == one(0.5)
    assert over_seeds([one(0.2), one(0.4)]) == Interval(pytest.approx(0.3), 0.2, 0.4)
    three = over_seeds([one(0.4), one(0.5), one(0.6)])
    assert three.value == pytest.approx(0.5)
    assert three.low == pytest.approx(0.5 - 4.30 * 0.1 / 3**0.5, abs=1e-3)
    many = over_seeds([one(value) for value in [10.0, 12.0] * 20])
    assert many.high == pytest.approx(11 + 2.023 * 1.01274 / 40**0.5, abs=0.02)
    assert over_seeds([one(0.0), one(0.0), one(0.9)]).low == 0.0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.5, "0.50"),
        (-0.2, "\N{MINUS SIGN}0.20"),
        (0.0999, "0.10"),
        (0.0123, "0.012"),
        (12.34, "12.3"),
        (99.7, "100"),
        (165.2, "165"),
        (41234.5, "41\u202f234"),
        (0.00001, "0.000"),
        (None, "\N{EN DASH}"),
    ],
)
def test_number(value: float | None, shown: str) -> None:
    assert wording.number(value) == shown


def test_wording() -> None:
    assert wording.bounds(0.074, 0.18) == "[0.07, 0.18]"
    assert wording.bounds(None, 0.18) == ""
    assert wording.short_count(41234) == "41.2k"
    assert wording.listing(["a", "b", "c"]) == "a, b and c"
    assert wording.duration(200) == "3 min 20 s"
    keys = [f"{name}/{reader}/relevance" for reader in ("base", "finetuned") for name in ("logit_lens", "patchscope")]
    assert [wording.short_name(key) for key in wording.order(keys)] == ["Patchscope", "Logit lens"] * 2
    assert wording.order(keys)[0] == PATCHSCOPE
    assert [wording.split_key(key)[1] for key in wording.order(keys, by="readout")] == ["finetuned", "base"] * 2


def test_scales_and_ticks() -> None:
    linear = svg.spanning([0.03, 0.56], 0, 100, zero=True)
    assert (linear.low, linear.high) == (0.0, pytest.approx(0.6))
    assert linear(0.3) == pytest.approx(50)
    assert linear(9.0) == 100
    assert svg.spanning([0.4, 0.97], 0, 1).high == 1.0
    log = svg.covering([10, 100, 1000], 0, 100)
    assert log.log and log(100) - log(10) == pytest.approx(log(1000) - log(100))
    assert set(log.ticks()) >= {10, 100, 1000}
    assert not svg.covering([6, 12, 24], 0, 100).log
    assert [svg.plain([0.0, 0.25, 0.5])(tick) for tick in (0.0, 0.25)] == ["0.00", "0.25"]
    for values in ([], [0.0], [5.0, 5.0], [-3.0, 2.0], [0, 1e-9], [1e9, 3e9]):
        scale = svg.spanning(values, 0, 100)
        assert scale.low < scale.high and 1 <= len(scale.ticks()) <= 12
        assert all(scale.low <= value <= scale.high for value in values)


def test_svg_text_is_escaped() -> None:
    drawn = svg.drawing(10, 10, HOSTILE, svg.text(0, 0, HOSTILE))
    assert "<img" not in drawn and "</script>" not in drawn
    assert "\x00" not in drawn and '"quoted"' not in drawn


def test_heat_map_marks_what_is_not_established() -> None:
    def cell(readable: int, leaks: int = 0) -> heatmap.HeatCell:
        return heatmap.HeatCell(0.2, 0.15, 0.1, readable, 2, leaks)

    rows = [heatmap.HeatRow("1 : 0", "", [cell(2), cell(1), "missing"], False)]
    rows.append(heatmap.HeatRow("control", "", [cell(0, leaks=1), cell(0), cell(0)], True))
    drawn = heatmap.heat_map(rows, [("6k", ""), ("12k", ""), ("24k", "")], (0.0, 0.6), "exposure", "label")
    assert drawn.count('class="beats"') == 1
    assert drawn.count('class="hatched"') == 4
    assert drawn.count('class="absent"') == 1
    assert drawn.count('class="leak"') == 1
    assert drawn.count("null 0.15") == 5 and drawn.count("control 0.10") == 5


def test_numbers_may_be_written_as_integers_and_keys_may_be_added() -> None:
    record = fake_sweep.audit(run="r", control=False, ratio=0, seed=0, step=1, steps=1, exposure=1, total=1)
    record["readouts"][0]["headline"]["value"] = 1
    record["new"] = {"in a later version": True}
    audit = build(Audit, record, Path("audit.json"))
    assert audit.readouts[0].headline is not None and audit.readouts[0].headline.value == 1.0
