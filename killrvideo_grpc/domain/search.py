"""Searching accounts by words: each word of a query must begin a word of the e-mail address or of a name."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from killrvideo_grpc.domain.account import Account

TERM_LENGTH = 16  # characters; stores index no more of a word, and `Query.matches` compares the rest


@dataclass(frozen=True, slots=True)
class Query:
    """The words to search for, folded. None of them: every account matches."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Query":
        """Reads what a person typed: words between white space."""
        words = fold(text).split()
        if not words and text.strip():
            words = [""]  # nothing but accents, which begin no word
        return cls(tuple(sorted(set(words))))

    @property
    def terms(self) -> list[str]:
        """Returns what to look accounts up by, longest first: all that match have a word that begins with each term."""
        return sorted({_term(word) for word in self.words}, key=len, reverse=True)

    @property
    def is_hopeless(self) -> bool:
        """Says whether no account can match, because no word begins like one of the query's, such as `@x`."""
        return "" in self.terms

    def matches(self, account: Account) -> bool:
        """Says whether each word of the query begins a word of the account."""
        starts = list(_word_starts(account.email, account.first_name, account.last_name))
        return all(any(start.startswith(word) for start in starts) for word in self.words)


def fold(text: str) -> str:
    """Returns text without differences in case, width and accents: `Ｂｅñ` becomes `ben`."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def terms(*texts: str) -> set[str]:
    """Returns the words of an account's e-mail address and names, each cut to TERM_LENGTH."""
    return {_term(start) for start in _word_starts(*texts)}


def prefixes(*texts: str) -> set[str]:
    """Returns all beginnings of the terms, for stores that can only look up whole terms."""
    return {term[:length] for term in terms(*texts) for length in range(1, len(term) + 1)}


def _word_starts(*texts: str) -> Iterator[str]:
    """Lists what follows each beginning of a word: `bob.ray@x.org` gives itself, `ray@x.org`, `x.org` and `org`."""
    for part in fold(" ".join(texts)).split():
        for position, character in enumerate(part):
            if character.isalnum() and not (position and part[position - 1].isalnum()):
                yield part[position:]


def _term(text: str) -> str:
    return "".join(takewhile(str.isalnum, text))[:TERM_LENGTH]
