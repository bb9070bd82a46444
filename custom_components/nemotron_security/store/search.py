"""How text is searched: word by word, in both cases, in any language, by nothing but LIKE."""

from collections.abc import Iterable
import unicodedata

LONGEST_SEARCH = 1000
"""Characters: what is longer is more than a database takes in one question."""


def search_text(*texts: str | None, labels: Iterable[str]) -> str:
    """Return what is kept of an incident to search in."""
    return _folded("\n".join([*filter(None, texts), *labels]))


def words_of(text: str) -> list[str]:
    """Return the words that are searched for, each once.

    Raises:
        ValueError: it is longer than `LONGEST_SEARCH`.
    """
    if len(text) > LONGEST_SEARCH:
        raise ValueError(f"more than {LONGEST_SEARCH} characters are searched for")
    return list(dict.fromkeys(_folded(text).split()))


def _folded(text: str) -> str:
    """Make equal what differs only in case, width or in how Unicode composes it.

    Rows keep what this returned: who changes it lets a migration fill `search_text` anew.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
