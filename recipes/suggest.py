"""Which key a person meant."""

from collections.abc import Collection
from difflib import get_close_matches

from recipes.owned import OWNED, RENAMED
from recipes.schema import keys


def suggest(key: str, extra_keys: Collection[str] = ()) -> str | None:
    """The key that is most likely meant.

    Args:
        key: A dotted key that does not exist.
        extra_keys: Keys of the entry point that no recipe has.

    Returns:
        A key, or None.
    """
    last = key.rsplit(".", 1)[-1]
    if last in RENAMED:
        return RENAMED[last]
    known = [name for name in keys() if name not in OWNED] + sorted(extra_keys)
    same_name = [name for name in known if name.rsplit(".", 1)[-1] == last]
    if same_name:
        return (get_close_matches(key, same_name, n=1, cutoff=0.0) or same_name)[0]
    whole = get_close_matches(key, known, n=1, cutoff=0.75)
    if whole:
        return whole[0]
    # A slip in the last part under the right block counts more than a better match elsewhere.
    inside = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    for group in (inside, known):
        by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(group)}
        if close := get_close_matches(last, by_last, n=1, cutoff=0.7):
            return by_last[close[0]]
    return None
