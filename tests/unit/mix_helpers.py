"""Documents and tokenizers for the tests of the mix: a word is a token, so that every count is known."""

from collections.abc import Iterator
from functools import cache

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from data_mix.document import Document, conversation_document, text_document

WORDS = 40
CHAT = (
    "{% for m in messages %}{{ '<t> ' + m['role'] + ' ' + m['content'] + ' </t> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<t> assistant ' }}{% endif %}"
)


@cache
def word_tokenizer(*, bos: bool = True, template: str | None = CHAT) -> PreTrainedTokenizerFast:
    """A fast tokenizer with one token a word; `bos` says whether it puts `<s>` before a text."""
    special = ["<unk>", "<s>", "</s>", "<t>", "</t>"]
    roles = ["system", "user", "assistant"]
    words = [*special, *roles, *(f"w{number}" for number in range(WORDS))]
    inner = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Sequence([WhitespaceSplit(), Split("\n", "removed")])
    inner.add_special_tokens([AddedToken(word, special=True) for word in special])
    if bos:
        inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<t>", "</t>"],
        chat_template=template,
    )


def words(count: int, start: int = 0) -> str:
    """A text of `count` words; the first few say which text it is."""
    tag = [f"w{start // WORDS**power % WORDS}" for power in range(3)]
    return " ".join([*tag, *(f"w{(start * 7 + place) % WORDS}" for place in range(count))][:count])


def texts(sizes: list[int], source: str = "corpus", first: int = 0) -> list[Document]:
    """One plain document for each size in words."""
    return [
        text_document(words(size, first + number), source, str(first + number)) for number, size in enumerate(sizes)
    ]


def chat(*sizes: int, source: str = "chat", start: int = 0) -> Document:
    """A conversation whose turns, user first, have these sizes in words."""
    roles = ("user", "assistant")
    turns = ({"role": roles[place % 2], "content": words(size, start + place)} for place, size in enumerate(sizes))
    return conversation_document(tuple(turns), source)


class Counting:
    """An iterator that remembers how much of it was read."""

    def __init__(self, documents: list[Document]) -> None:
        self.documents = documents
        self.read = 0

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        if self.read == len(self.documents):
            raise StopIteration
        self.read += 1
        return self.documents[self.read - 1]
