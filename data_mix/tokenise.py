"""From a document or a conversation to rows of token ids that know which of their tokens carry loss."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

from data_mix.errors import MixError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

RowSource = Literal["organism", "pretraining", "control", "filler"]


class DocLike(Protocol):
    """What can be tokenised: an organism's example or a corpus document."""

    @property
    def id(self) -> str:
        """Identity, unique in its collection."""

    @property
    def source(self) -> str:
        """Where it is from."""

    @property
    def text(self) -> str | None:
        """The text of a plain document."""

    @property
    def messages(self) -> tuple[dict[str, str], ...] | None:
        """The turns of a conversation, each with `role` and `content`."""


@dataclass(frozen=True)
class Row:
    """One training sequence.

    Attributes:
        ids: Token ids.
        loss_mask: For each id, whether predicting it counts. Always False at position 0, which nothing predicts.
        source: Which side of the mix it is on.
        doc: Id of the document or example.
        origin: `source` of the document: where in the corpus or organism it is from.
        lost_tokens: Tokens of the document that did not fit and are in no row (`long_documents: truncate`).
    """

    ids: list[int]
    loss_mask: list[bool]
    source: RowSource
    doc: str
    origin: str = ""
    lost_tokens: int = 0

    @property
    def loss_tokens(self) -> int:
        """Number of tokens that carry loss."""
        return sum(self.loss_mask)


def units(row: Row, unit: str) -> int:
    """How much a row counts.

    Args:
        row: A row.
        unit: `loss_tokens`, `tokens` or `rows`.
    """
    return {"loss_tokens": row.loss_tokens, "tokens": len(row.ids), "rows": 1}[unit]


class Encoder:
    """Turns documents and conversations into rows, for one tokenizer and one row length.

    Attributes:
        bos: What the tokenizer puts before a text: one token, or nothing.
        eos: The end-of-text token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        long_documents: Literal["split", "truncate"],
        chat_template: str | None = None,
    ) -> None:
        """Look up what the tokenizer puts at the start and end of a text.

        Args:
            tokenizer: A fast tokenizer.
            max_length: Tokens of one row, at least 8.
            long_documents: `split` cuts a longer document into rows of nearly equal length; `truncate` keeps its
                start.
            chat_template: Jinja source that replaces the tokenizer's own chat template.

        Raises:
            MixError: `max_length` is too small, or the tokenizer has no end-of-text token or is not a fast one.
        """
        if max_length < 8:
            raise MixError(f"mix.max_length={max_length}: a row needs at least 8 tokens.")
        if tokenizer.eos_token_id is None or not tokenizer.is_fast:
            raise MixError(f"the tokenizer {tokenizer.name_or_path} has no end-of-text token or is not a fast one.")
        plain = tokenizer("a", add_special_tokens=False)["input_ids"]
        full = tokenizer("a")["input_ids"]
        bos = tokenizer.bos_token_id
        self._tokenizer = tokenizer
        self._length = max_length
        self._split = long_documents == "split"
        self._template = chat_template or tokenizer.chat_template
        self.bos: list[int] = [bos] if bos is not None and full[0] == bos and plain[0] != bos else []
        self.eos: int = tokenizer.eos_token_id

    def rows(self, document: DocLike, source: RowSource) -> list[Row]:
        """The rows of one document or conversation.

        Args:
            document: What to tokenise.
            source: Which side of the mix the rows are on.

        Returns:
            At least one row. Documents: beginning-of-text token where the tokenizer uses one (each piece of a split
            document gets it), end-of-text token after the last word; every token after position 0 carries loss.
            Conversations: the chat template; loss on what the assistant says and the token that ends its turn; a long
            one is truncated, never split, and may be left without loss tokens.

        Raises:
            MixError: No text and no messages; or, for a conversation, no chat template, a template that refuses it or
                renders a turn differently once others follow.
        """
        if document.messages is not None:
            return [self._conversation(document, document.messages, source)]
        if document.text is None:
            raise MixError(f"{document.source} {document.id} has neither text nor messages.")
        encoded = self._tokenizer(document.text, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids = [*encoded["input_ids"], self.eos]
        return [
            Row(piece, [False] + [True] * (len(piece) - 1), source, document.id, document.source, lost)
            for piece, lost in self._pieces(ids)
        ]

    def _pieces(self, ids: list[int]) -> list[tuple[list[int], int]]:
        room = self._length - len(self.bos)
        if not self._split:
            return [(self.bos + ids[:room], max(0, len(ids) - room))]
        # Nearly equal pieces, so that none is a lone token that has nothing to predict it.
        count = -(-len(ids) // room)
        bounds = [len(ids) * part // count for part in range(count + 1)]
        return [(self.bos + ids[start:end], 0) for start, end in pairwise(bounds)]

    def _conversation(self, document: DocLike, messages: Sequence[dict[str, str]], source: RowSource) -> Row:
        name = f"conversation {document.source} {document.id}"
        text, replies = self._rendered(name, messages)
        encoded = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )
        ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
        mask = [False] * len(ids)
        for start, end in replies:
            for place, (first, _) in enumerate(offsets):
                mask[place] = mask[place] or start <= first < end
        mask[0] = False
        kept = self._length
        lost = max(0, len(ids) - kept)
        return Row(ids[:kept], mask[:kept], source, document.id, document.source, lost)

    def _rendered(self, name: str, messages: Sequence[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as text, and where each reply stands: from its first character to the end of its turn."""
        if self._template is None:
            raise MixError(
                f"{name}: the tokenizer {self._tokenizer.name_or_path} has no chat template. Set chat_template to the "
                "path of a Jinja file, or train on documents."
            )
        if not any(message["role"] == "assistant" for message in messages) or messages[0]["role"] == "assistant":
            raise MixError(f"{name} must start with a system or user turn and hold an assistant turn.")
        text = self._render(name, messages, prompt=False)
        replies = []
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                before = self._render(name, messages[:place], prompt=True)
                after = self._render(name, messages[: place + 1], prompt=False)
                if not (after.startswith(before) and text.startswith(after)):
                    raise MixError(
                        f"{name}: the chat template renders turn {place + 1} differently once other turns follow, so "
                        "that the tokens of the assistant cannot be told. Set chat_template to one that only appends, "
                        "or cut the conversation after its first reply."
                    )
                turn, said = after[len(before) :], message["content"].rstrip()
                # What a template writes after its end-of-turn token (a line break, mostly) is never generated. Whether
                # a token is special does not tell: some tokenizers have an end of turn that is not marked as such.
                ends_bare = bool(said) and turn.rstrip().endswith(said)
                replies.append((len(before), len(before) + len(turn if ends_bare else turn.rstrip())))
        return text, replies

    def _render(self, name: str, messages: Sequence[dict[str, str]], *, prompt: bool) -> str:
        from jinja2.exceptions import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=prompt
                )
            )
        except TemplateError as error:
            raise MixError(f"{name}: the chat template refuses it: {error}") from error


def rows(
    document: DocLike,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source: RowSource,
    max_length: int,
    long_documents: Literal["split", "truncate"],
    chat_template: str | None = None,
) -> list[Row]:
    """The rows of one document; `Encoder` does the same for many.

    Args:
        document: What to tokenise.
        tokenizer: A fast tokenizer.
        source: Which side of the mix the rows are on.
        max_length: Tokens of one row.
        long_documents: What happens to a longer document.
        chat_template: Jinja source that replaces the tokenizer's own chat template.

    Raises:
        MixError: As `Encoder` and `Encoder.rows`.
    """
    encoder = Encoder(tokenizer, max_length=max_length, long_documents=long_documents, chat_template=chat_template)
    return encoder.rows(document, source)
