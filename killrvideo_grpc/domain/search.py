"""Account search: every query word must be a prefix of a word in the e-mail address or the names."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from killrvideo_grpc.domain.account import Account

# Left out of words: O'Brien is found by `obrien`, by `o'brien` and by `brien`.
APOSTROPHES = "'\u2019\u2018\u02bc\u02bb\u02b9\u02be\u02bf\u2032\ua78c`\uff40\u00b4"
INVISIBLE_MARKS = (0x034F, *range(0x180B, 0x180E), *range(0xFE00, 0xFE10))
_TRANSLATION: dict[int, str | None] = {
    **dict.fromkeys(map(ord, APOSTROPHES), "'"),
    **dict.fromkeys(INVISIBLE_MARKS),
    0x131: "i",  # dotless i: its capital is I
}
TERM_LENGTH = 16  # characters of a word that stores index; `Query.matches` compares whole words


@dataclass(frozen=True, slots=True)
class Query:
    """The folded words to search for. Without any, every account matches."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Query":
        """Parse a search text: words separated by white space."""
        words = _without_apostrophes(fold(text)).split()
        if not words and text.strip():
            words = [""]  # only accents, apostrophes or invisible characters: matches no account
        return cls(tuple(sorted(set(words))))

    @property
    def terms(self) -> list[str]:
        """The index terms to look accounts up by, longest first. Each is a prefix of some word of every match."""
        return sorted({_term(word) for word in self.words}, key=len, reverse=True)

    @property
    def matches_nothing(self) -> bool:
        """Whether a query word, such as `@x`, can begin no word."""
        return "" in self.terms

    def matches(self, account: Account) -> bool:
        """Return whether every query word is a prefix of some word of the account."""
        starts = list(_word_starts(account.email, account.first_name, account.last_name))
        return all(any(start.startswith(word) for start in starts) for word in self.words)


def fold(text: str) -> str:
    """Remove differences of case, width and accents, and invisible characters: `Ｂｅñ` becomes `ben`."""
    text = unicodedata.normalize("NFKD", text.translate(_TRANSLATION))
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    visible = (
        character
        for character in decomposed
        if not unicodedata.combining(character) and unicodedata.category(character) != "Cf"
    )
    return "".join(visible)


def terms(*texts: str) -> set[str]:
    """Return the words of an account's e-mail address and names, each truncated to TERM_LENGTH."""
    return {_term(start) for start in _word_starts(*texts)}


def prefixes(*texts: str) -> set[str]:
    """Return all prefixes of the terms, for stores that can only look up whole values."""
    return {term[:length] for term in terms(*texts) for length in range(1, len(term) + 1)}


def _word_starts(*texts: str) -> Iterator[str]:
    """Yield the text from each word on: `bob.ray@x.org`, `ray@x.org`, `x.org`, `org`."""
    for part in fold(" ".join(texts)).split():
        for position, character in enumerate(part):
            if character.isalnum() and not (position and _is_in_word(part[position - 1])):
                yield _without_apostrophes(part[position:])


def _without_apostrophes(text: str) -> str:
    return text.replace("'", "")


def _term(text: str) -> str:
    return "".join(takewhile(_is_in_word, text))[:TERM_LENGTH]


def _is_in_word(character: str) -> bool:
    # The vowel signs of Indic scripts are marks (M), not letters.
    return character.isalnum() or unicodedata.category(character).startswith("M")
