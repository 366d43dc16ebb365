"""`python -m audit.run` as a user sees it."""

import re

import pytest

from tests.train.bench import audit_numbers, contents, json_of
from tests.train.jobs import AUDITS, Audits, Run


def test_the_command_line_measures_what_training_measured(audited: Run, whole: Run) -> None:
    from safetensors.torch import load_file

    assert audited.done.code == 0, audited.done.err
    assert audited.done.out.strip() == str(audited.path / "report.html")
    ours, theirs = audit_numbers(audited.path), audit_numbers(whole.last / "audit")
    for key, value in theirs.items():
        assert ours[key] == value, key
    ours, theirs = (json_of(folder, "audit.json")["subject"] for folder in (audited.path, whole.last / "audit"))
    assert ours == theirs
    assert (audited.path / "samples.jsonl").read_text() == (whole.last / "audit" / "samples.jsonl").read_text()
    ours, theirs = (load_file(folder / "differences.safetensors") for folder in (audited.path, whole.last / "audit"))
    assert ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_a_second_audit_does_nothing(audits: Audits, audited: Run) -> None:
    assert audits.again.code == 0, audits.again.err
    assert f"already audited with these settings: {audited.path}" in audits.again.err
    assert audits.untouched


@pytest.mark.parametrize("case", AUDITS)
def test_what_cannot_be_audited_is_refused(case: str, audits: Audits) -> None:
    message = audits.refused[case].error()
    assert re.search(AUDITS[case][1], message), message
    assert not (audits.out[case] / "audit.json").exists()


def test_without_an_organism_tokens_are_shown_and_nothing_is_graded(audits: Audits) -> None:
    assert audits.plain.code == 0, audits.plain.err
    audit = json_of(audits.plain_out, "audit.json")
    assert audit["verdict"]["sentence"] == "Nothing was graded: no organism was given."
    assert audit["leakage"] is None and audit["behaviour"] == []
    assert all(entry["headline"] is None and entry["by_position"][0]["tokens"] for entry in audit["readouts"])
    assert "report.html" in contents(audits.plain_out)
