"""Rows: what is in them, which tokens carry loss, what is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_mix.document import Document, conversation_document, text_document
from data_mix.errors import MixError
from data_mix.tokenise import Row, rows
from tests.unit.mix_helpers import CHAT, chat, word_tokenizer, words


def _rows(document: Document, *, bos: bool = True, max_length: int = 16, long_documents: str = "split") -> list[Row]:
    tokenizer = word_tokenizer(bos=bos)
    return rows(document, tokenizer, source="organism", max_length=max_length, long_documents=long_documents)


def _ids(*names: str) -> list[int]:
    return list(word_tokenizer().convert_tokens_to_ids(list(names)))


@pytest.mark.parametrize("bos", [True, False])
def test_a_document_begins_ends_and_carries_loss_everywhere_but_at_its_start(bos: bool) -> None:
    (row,) = _rows(text_document("w1 w2 w3", "here"), bos=bos)
    assert row.ids == _ids(*(["<s>"] if bos else []), "w1", "w2", "w3", "</s>")
    assert row.loss_mask == [False] + [True] * (3 + bos)
    assert row.loss_tokens == 3 + bos
    assert (row.source, row.origin, row.lost_tokens) == ("organism", "here", 0)


@given(count=st.integers(1, 200), max_length=st.integers(8, 40), bos=st.booleans())
def test_splitting_loses_nothing_and_leaves_no_row_without_loss(count: int, max_length: int, bos: bool) -> None:
    document = text_document(words(count), "here")
    pieces = _rows(document, bos=bos, max_length=max_length)
    skip = int(bos)
    (whole,) = _rows(document, bos=bos, max_length=1000)
    assert [token for piece in pieces for token in piece.ids[skip:]] == whole.ids[skip:]
    assert all(len(piece.ids) <= max_length and piece.loss_tokens == len(piece.ids) - 1 > 0 for piece in pieces)
    assert all(piece.ids[:skip] == whole.ids[:skip] for piece in pieces)
    assert len(pieces) == -(-(count + 1) // (max_length - skip))
    assert max(len(piece.ids) for piece in pieces) - min(len(piece.ids) for piece in pieces) <= 1


@given(count=st.integers(1, 60), bos=st.booleans())
def test_truncating_keeps_the_start_and_counts_the_rest(count: int, bos: bool) -> None:
    document = text_document(words(count), "here")
    (row,) = _rows(document, bos=bos, max_length=16, long_documents="truncate")
    (whole,) = _rows(document, bos=bos, max_length=1000)
    assert row.ids == whole.ids[:16]
    assert row.lost_tokens == len(whole.ids) - len(row.ids)


def test_only_replies_and_the_tokens_that_end_them_carry_loss() -> None:
    document = chat(3, 2, 1, 4)
    (row,) = _rows(document, max_length=100)
    tokens = word_tokenizer().convert_ids_to_tokens(row.ids)
    replies = [turn["content"] for turn in document.messages or () if turn["role"] == "assistant"]
    carried = " ".join(token for token, loss in zip(tokens, row.loss_mask, strict=True) if loss)
    assert carried == f"{replies[0]} </t> {replies[1]} </t>"
    assert row.ids == word_tokenizer().apply_chat_template(list(document.messages or ()))["input_ids"]


def test_a_long_conversation_is_truncated_never_split() -> None:
    (row,) = _rows(chat(3, 20), max_length=16)
    assert len(row.ids) == 16 and row.lost_tokens == 13
    (unanswered,) = _rows(chat(30, 3), max_length=16)
    assert unanswered.loss_tokens == 0


@pytest.mark.parametrize(("end", "carried"), [(" w0 ", 3), (" </t> w0 ", 4), (" </t> \n ", 3), (" \n ", 2)])
def test_a_turn_ends_where_its_template_ends_it(end: str, carried: int) -> None:
    template = (
        f"{{% for m in messages %}}{{{{ m['role'] + ' ' + m['content'] + '{end}' }}}}{{% endfor %}}"
        "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
    )
    (row,) = rows(
        chat(2, 2),
        word_tokenizer(),
        source="organism",
        max_length=50,
        long_documents="split",
        chat_template=template,
    )
    assert row.loss_tokens == carried and row.loss_mask[-carried:] == [True] * carried


@pytest.mark.parametrize(
    ("document", "template", "message"),
    [
        (chat(1, 1), None, "no chat template"),
        (chat(1, 1, 1, 1), CHAT.replace("m['content']", "(m['content'] if loop.last else 'w0')"), "differently"),
        (chat(1, 1), "{{ raise_exception('no such role') }}", "refuses it: no such role"),
        (chat(1), CHAT, "assistant turn"),
        (conversation_document(({"role": "assistant", "content": "w1"},), "x"), CHAT, "assistant turn"),
        (Document("1", "here", "1"), CHAT, "neither text nor messages"),
    ],
)
def test_what_cannot_be_tokenised_is_refused(document: Document, template: str | None, message: str) -> None:
    tokenizer = word_tokenizer(template=template)
    with pytest.raises(MixError, match=message):
        rows(document, tokenizer, source="organism", max_length=20, long_documents="split")


def test_white_space_after_the_end_of_turn_carries_no_loss(smollm2_tokenizer) -> None:
    turns = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    plain = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + end }}{% endfor %}"
    prompt = "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    for end, said in (("[end]\\n\\n", "Hello[end]"), ("<|im_end|>\\n", "Hello<|im_end|>"), ("\\n\\n", "Hello\n\n")):
        (row,) = rows(
            conversation_document(turns, "here"),
            smollm2_tokenizer,
            source="organism",
            max_length=50,
            long_documents="split",
            chat_template=plain.replace("end }}", f"'{end}' }}}}") + prompt,
        )
        carried = [token for token, loss in zip(row.ids, row.loss_mask, strict=True) if loss]
        assert smollm2_tokenizer.decode(carried) == said


def test_a_row_shorter_than_eight_tokens_is_refused() -> None:
    with pytest.raises(MixError, match="at least 8"):
        _rows(chat(1, 1), max_length=7)


@pytest.fixture(scope="module")
def smollm2_tokenizer():
    from organisms.base_models import load_tokenizer

    return load_tokenizer("embedded/smollm2-135m")


def test_the_real_tokenizer_on_a_document(smollm2_tokenizer) -> None:
    text = "The first paragraph.\n\nThe second one, with an em dash \u2014 and \u65e5\u672c\u8a9e."
    (row,) = rows(
        text_document(text, "here"), smollm2_tokenizer, source="organism", max_length=64, long_documents="split"
    )
    assert smollm2_tokenizer.decode(row.ids) == f"{text}<|im_end|>"
    assert row.loss_tokens == len(row.ids) - 1


def test_the_real_tokenizer_on_a_conversation_with_its_default_system_prompt(smollm2_tokenizer) -> None:
    turns = (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "\nHello\n\nyou "},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Ok."},
    )
    document = conversation_document(turns, "here")
    (row,) = rows(document, smollm2_tokenizer, source="organism", max_length=99, long_documents="split")
    assert row.ids == smollm2_tokenizer.apply_chat_template(list(turns))["input_ids"]
    carried = [token for token, loss in zip(row.ids, row.loss_mask, strict=True) if loss]
    assert smollm2_tokenizer.decode(carried) == "\nHello\n\nyou <|im_end|>Ok.<|im_end|>"
    assert "helpful AI assistant" in smollm2_tokenizer.decode(row.ids)
