"""Corpora on the hub, streamed: nothing is downloaded but what is read."""

from collections.abc import Iterator

from data_mix.document import Document, Split, split_of
from data_mix.errors import MixError
from data_mix.local import row_document

_BUFFER = 10_000


def stream(
    corpus: str, split: Split, seed: int, text_field: str, hub_config: str | None, hub_split: str
) -> Iterator[Document]:
    """The documents of one split of a hub dataset, shuffled through a seeded buffer.

    Args:
        corpus: `hub:<dataset id>`.
        split: Our split, cut by hash.
        seed: Seed of the buffer.
        text_field: Column with the text or messages.
        hub_config: Configuration of the dataset.
        hub_split: The dataset's split.

    Raises:
        MixError: The dataset cannot be had, a column is missing, or there is no text.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name = corpus.removeprefix("hub:")
    empty = True
    try:
        dataset = load_dataset(name, hub_config, split=hub_split, streaming=True).shuffle(
            seed=seed, buffer_size=_BUFFER
        )
        for number, row in enumerate(dataset):
            document = row_document(row, text_field, name, f"{corpus} row {number}")
            if document is not None and split_of(document.parent) == split:
                empty = False
                yield document
    except MixError:  # a ValueError too, and already clear
        raise
    except (OSError, ValueError, DatasetsError) as error:
        raise MixError(
            f"mix.corpus={corpus}: cannot read it from the hub: {type(error).__name__}: {error}\n"
            "Check the name, mix.hub_config, mix.hub_split and the network; embedded/general needs no hub."
        ) from error
    if empty:
        raise MixError(f"mix.corpus={corpus} holds no text for the split '{split}'.")
