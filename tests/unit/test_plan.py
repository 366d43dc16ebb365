"""The mix: exact amounts, even order, nested prefixes, an honest ledger."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_mix.config import MixConfig
from data_mix.document import Document
from data_mix.errors import MixError
from data_mix.ledger import Ledger
from data_mix.plan import Mix, build
from data_mix.tokenise import Row, units
from tests.unit.mix_helpers import Counting, chat, texts, word_tokenizer

ENOUGH = texts([11, 90, 2, 35, 60, 1, 23] * 60, "corpus", 1000)
CONTROL = texts([30, 5, 70, 12] * 60, "control-corpus", 5000)

sizes = st.lists(st.integers(1, 80), min_size=1, max_size=12)
settings_of_a_mix = st.builds(
    MixConfig,
    ratio=st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0.02, 6)),
    unit=st.sampled_from(["loss_tokens", "tokens", "rows"]),
    hold=st.sampled_from(["organism", "total"]),
    passes=st.one_of(st.sampled_from([1.0, 3.0]), st.floats(0.3, 2.5)),
    max_length=st.integers(8, 64),
    long_documents=st.sampled_from(["split", "truncate"]),
    allow_repeat=st.just(True),
    seed=st.integers(0, 5),
)
conversations = st.builds(chat, *[st.integers(1, 15)] * 4, start=st.integers(0, 5))


def mix(organism: list[Document], config: MixConfig, batch_rows: int = 4, **others) -> Mix:
    text = others.pop("text", iter(ENOUGH))
    return build(organism, text, word_tokenizer(), config, batch_rows=batch_rows, **others)


def side(made: Mix, *names: str) -> list[Row]:
    return [row for row in made.rows if row.source in names]


def amount(rows: list[Row], unit: str) -> int:
    return sum(units(row, unit) for row in rows)


def asked(organism: list[Document], config: MixConfig) -> tuple[int, int] | None:
    """Units of the organism and of text, from the definitions; None where that is nothing at all."""
    one_pass = amount(
        side(mix(organism, replace(config, ratio=0, passes=1, hold="organism"), 1), "organism"), config.unit
    )
    whole = round(config.passes * one_pass)
    if config.hold == "organism":
        wanted = whole, round(config.ratio * whole)
    else:
        kept = round(whole / (1 + config.ratio))
        wanted = kept, whole - kept
    return None if wanted[0] == 0 or (config.ratio > 0 and wanted[1] == 0) else wanted


@settings(max_examples=200, deadline=None)
@given(sizes=sizes, talks=st.lists(conversations, max_size=4), config=settings_of_a_mix, batch_rows=st.integers(1, 9))
def test_amounts_are_exact_and_the_share_is_even(
    sizes: list[int], talks: list[Document], config: MixConfig, batch_rows: int
) -> None:
    organism = [*texts(sizes, "organism"), *talks]
    wanted = asked(organism, config)
    if wanted is None:
        with pytest.raises(MixError):
            mix(organism, config, batch_rows)
        return
    try:
        made = mix(organism, config, batch_rows)
    except MixError as error:
        assert config.unit == "tokens" and "no loss token" in str(error), "only a cut in tokens can leave an id without loss"
        return
    own, text = side(made, "organism"), side(made, "pretraining")
    assert (amount(own, config.unit), amount(text, config.unit)) == wanted

    # The bound that docs/mix.md proves, in whole numbers: |t O - o T| <= (a T + b O) / 2.
    totals = amount(own, config.unit), amount(text, config.unit)
    largest = [max((units(row, config.unit) for row in rows), default=0) for rows in (own, text)]
    most = largest[0] * totals[1] + largest[1] * totals[0]
    seen = {"organism": 0, "pretraining": 0}
    after_steps = [0]
    for number, row in enumerate(made.rows, start=1):
        if row.source != "filler":
            seen[row.source] += units(row, config.unit)
        error = seen["pretraining"] * totals[0] - seen["organism"] * totals[1]
        assert 2 * abs(error) <= most
        if number % batch_rows == 0:
            after_steps.append(error)
    assert error == 0
    in_a_step = [abs(later - earlier) for earlier, later in pairwise(after_steps)]
    assert max(in_a_step) <= max(largest) * sum(totals)

    assert len(made.rows) == made.steps * batch_rows
    filler = len(side(made, "filler"))
    assert filler < batch_rows
    assert all(row.source == "filler" and row.loss_tokens == 0 for row in made.rows[len(made.rows) - filler :])
    assert all(len(row.ids) == len(row.loss_mask) and not row.loss_mask[0] for row in made.rows)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, config=settings_of_a_mix, ratios=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)))
def test_ratios_are_nested_and_the_organisms_order_is_the_same(
    sizes: list[int], config: MixConfig, ratios: tuple[float, float]
) -> None:
    organism = texts([*sizes, 40], "organism")
    config = replace(config, hold="organism", passes=max(1.0, config.passes))
    low, high = (mix(organism, replace(config, ratio=ratio)) for ratio in sorted(ratios))
    assert side(low, "organism") == side(high, "organism")
    few, many = side(low, "pretraining"), side(high, "pretraining")
    assert few[:-1] == many[: len(few) - 1]
    assert few[-1].ids[:1] == many[len(few) - 1].ids[:1]
    assert few[-1].doc == many[len(few) - 1].doc


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, talks=st.lists(conversations, max_size=3), config=settings_of_a_mix)
def test_a_control_differs_in_its_text_only(sizes: list[int], talks: list[Document], config: MixConfig) -> None:
    organism = [*texts([*sizes, 40], "organism"), *talks]
    config = replace(config, passes=max(1.0, config.passes), ratio=max(0.2, config.ratio))
    planted, benign = mix(organism, config), mix(organism, config, control=iter(CONTROL))
    place = ("organism", "control")
    assert [(row.source in place, len(row.ids), row.loss_mask) for row in planted.rows] == [
        (row.source in place, len(row.ids), row.loss_mask) for row in benign.rows
    ]
    assert side(planted, "pretraining") == side(benign, "pretraining")
    assert not side(benign, "organism")
    assert {row.doc for row in side(benign, "control")} <= {document.id for document in CONTROL}
    assert planted.ledger.cumulative == benign.ledger.cumulative
    assert benign.ledger.control and benign.ledger.sources["organism"]["rows"] == 0
    assert benign.ledger.sources["control"]["loss_tokens"] == planted.ledger.sources["organism"]["loss_tokens"]


def test_a_control_shows_the_same_text_at_every_pass() -> None:
    organism = texts([30, 20, 10], "organism")
    benign = mix(organism, MixConfig(passes=3), batch_rows=1, control=iter(CONTROL))
    assert len({tuple(row.ids) for row in benign.rows}) == 3


@settings(max_examples=50, deadline=None)
@given(sizes=sizes, config=settings_of_a_mix, batch_rows=st.integers(1, 7))
def test_the_ledger_counts_what_is_in_the_rows(sizes: list[int], config: MixConfig, batch_rows: int) -> None:
    organism = texts([*sizes, 40], "organism")
    config = replace(config, passes=max(1.0, config.passes), ratio=max(0.2, config.ratio))
    made = mix(organism, config, batch_rows)
    ledger = made.ledger
    for name, counts in ledger.sources.items():
        rows = side(made, name)
        assert counts["rows"] == len(rows)
        assert counts["tokens"] == sum(len(row.ids) for row in rows)
        assert counts["loss_tokens"] == sum(row.loss_tokens for row in rows)
    for name, seen in ledger.cumulative.items():
        for step in range(1, made.steps + 1):
            rows = [row for row in made.rows[: step * batch_rows] if row.source == name]
            assert seen[step - 1] == sum(row.loss_tokens for row in rows)
    assert ledger.corpus_sources["corpus"] == {
        key: value for key, value in ledger.sources["pretraining"].items() if key != "documents_without_loss"
    }
    if config.unit != "rows" or config.hold == "organism":
        assert ledger.realised[config.unit] == (
            amount(side(made, "pretraining"), config.unit) / amount(side(made, "organism"), config.unit)
        )
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger
    for fraction in (0.01, 0.5, 1.0):
        first = ledger.first_step_with(fraction)
        assert ledger.exposure_at(first) >= fraction * ledger.exposure_at(made.steps) > ledger.exposure_at(first - 1)


@pytest.mark.parametrize("unit", ["loss_tokens", "tokens", "rows"])
def test_no_more_of_the_corpus_is_read_than_is_needed(unit: str) -> None:
    reader = Counting(ENOUGH)
    made = mix(texts([50, 60], "organism"), MixConfig(ratio=2.0, unit=unit), text=reader)  # type: ignore[arg-type]
    assert reader.documents[reader.read - 1].id == side(made, "pretraining")[-1].doc
    untouched = Counting(ENOUGH)
    mix(texts([50], "organism"), MixConfig(ratio=0.0), text=untouched)
    assert untouched.read == 0


def test_the_same_settings_give_the_same_order_and_another_seed_another() -> None:
    organism = texts([20, 30, 40, 50], "organism")
    config = MixConfig(ratio=1.0, passes=2.0)
    first, again = mix(organism, config), mix(organism, config)
    assert first.rows == again.rows and first.ledger == again.ledger
    other = mix(organism, replace(config, seed=1))
    assert other.ledger.order_sha256 != first.ledger.order_sha256
    half = len(side(first, "organism")) // 2
    docs = [row.doc for row in side(first, "organism")]
    assert sorted(docs[:half]) == sorted(docs[half:]) and docs[:half] != docs[half:]


def test_a_ratio_below_one_row_gives_part_of_a_row() -> None:
    made = mix(texts([50, 50], "organism"), MixConfig(ratio=0.05))
    (row,) = side(made, "pretraining")
    assert row.loss_tokens == round(0.05 * amount(side(made, "organism"), "loss_tokens")) == 5


def test_one_very_long_document_keeps_the_amount_exact() -> None:
    made = mix(
        texts([50, 60], "organism"), MixConfig(ratio=3.0, max_length=4096), text=iter(texts([5000], "corpus", 9))
    )
    (row,) = side(made, "pretraining")
    assert row.loss_tokens == 3 * amount(side(made, "organism"), "loss_tokens")


def test_conversations_with_few_loss_tokens_are_counted_by_their_loss() -> None:
    talks = [chat(40, 1, start=number) for number in range(30)]
    made = mix(talks, MixConfig(ratio=1.0), text=iter([chat(9, 2, start=number) for number in range(60)]))
    assert made.ledger.realised["loss_tokens"] == 1.0
    assert made.ledger.sources["organism"]["loss_tokens"] == 60
    assert made.ledger.realised["tokens"] < 0.5


def test_what_carries_no_loss_is_left_out_and_counted() -> None:
    organism = [chat(40, 5), *texts([5], "organism")]
    text = iter([chat(40, 5, start=3), *ENOUGH])
    made = mix(organism, MixConfig(ratio=1.0, max_length=16), text=text)
    assert made.ledger.sources["organism"]["documents_without_loss"] == 1
    assert made.ledger.sources["pretraining"]["documents_without_loss"] == 1
    assert all(row.loss_tokens for row in side(made, "organism", "pretraining"))


def test_truncation_is_in_the_ledger() -> None:
    made = mix(texts([30, 5], "organism"), MixConfig(max_length=16, long_documents="truncate", passes=2.0))
    counts = made.ledger.sources["organism"]
    assert (counts["documents"], counts["rows"], counts["truncated_documents"]) == (2, 4, 1)
    assert counts["lost_tokens"] == 2 * (1 + 30 + 1 - 16)


def test_a_small_corpus_is_repeated_only_when_asked() -> None:
    organism, small = texts([50], "organism"), texts([20, 10], "corpus", 77)
    with pytest.raises(MixError, match=r"needs 153 loss_tokens, there are 32\b.*allow_repeat"):
        mix(organism, MixConfig(ratio=3.0), text=iter(small))
    made = mix(organism, MixConfig(ratio=3.0, allow_repeat=True), text=iter(small))
    assert made.ledger.realised["loss_tokens"] == 3.0
    assert made.ledger.sources["pretraining"]["documents"] == 2
    with pytest.raises(MixError, match="there are 0"):
        mix(organism, MixConfig(ratio=3.0, allow_repeat=True), text=iter([]))


@pytest.mark.parametrize(
    ("changes", "batch_rows", "message"),
    [
        ({"ratio": -0.1}, 4, "mix.ratio=-0.1"),
        ({"ratio": 1000.1}, 4, "mix.ratio=1000.1"),
        ({"ratio": float("nan")}, 4, "mix.ratio=nan"),
        ({"ratio": float("inf")}, 4, "mix.ratio=inf"),
        ({"ratio": 1e-6}, 4, "rounds to no pretraining text"),
        ({"ratio": 900.0, "hold": "total"}, 4, "leave nothing of the organism"),
        ({"passes": 0.0}, 4, "mix.passes=0.0"),
        ({"passes": float("nan")}, 4, "mix.passes=nan"),
        ({"passes": 1e-5}, 4, "leave nothing of the organism"),
        ({}, 0, "optimizer step of 0 rows"),
        ({"max_length": 2}, 4, "mix.max_length=2"),
    ],
)
def test_senseless_settings_are_refused(changes: dict, batch_rows: int, message: str) -> None:
    with pytest.raises(MixError, match=message):
        mix(texts([50], "organism"), MixConfig(**changes), batch_rows)


def test_an_organism_without_loss_tokens_is_refused() -> None:
    with pytest.raises(MixError, match="nothing of the organism carries loss"):
        mix([chat(40, 5)], MixConfig(max_length=16))
    with pytest.raises(MixError, match="nothing of the organism carries loss"):
        mix([], MixConfig())


def test_too_little_control_text_is_refused() -> None:
    with pytest.raises(MixError, match="enough for 1 of the organism's 3 rows"):
        mix(texts([30, 30, 30], "organism"), MixConfig(), control=iter(texts([40, 3], "control", 9)))


def test_a_ledger_of_another_schema_is_refused() -> None:
    content = mix(texts([30], "organism"), MixConfig()).ledger.to_json()
    with pytest.raises(MixError, match="no ledger of schema 1"):
        Ledger.from_json({**content, "schema": 2})
    with pytest.raises(MixError, match="no ledger of schema 1"):
        Ledger.from_json({"schema": 1})


def test_steps_beyond_the_mix_are_refused() -> None:
    ledger = mix(texts([30], "organism"), MixConfig()).ledger
    assert ledger.exposure_at(0) == 0
    for step in (-1, ledger.steps + 1):
        with pytest.raises(MixError, match=f"step {step}"):
            ledger.exposure_at(step)
    for fraction in (0.0, 1.1, float("nan")):
        with pytest.raises(MixError, match="exposure fraction"):
            ledger.first_step_with(fraction)
