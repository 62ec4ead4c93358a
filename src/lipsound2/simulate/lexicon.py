"""Words -> phonemes in the alphabet of the voice, and those -> IPA.

The words of the built-in grammars ship with the package; any other word is looked up in the
dictionaries of misaki (Apache-2.0), of which only the data are read.
"""

import json
from collections.abc import Iterable
from functools import lru_cache

from lipsound2.errors import DataError
from lipsound2.simulate.packages import folder
from lipsound2.simulate.sentences import Word, vocabulary

STRESS = "ˈˌ"
IPA = {
    "A": "eɪ",
    "I": "aɪ",
    "O": "oʊ",
    "Q": "əʊ",
    "W": "aʊ",
    "Y": "ɔɪ",
    "ʤ": "dʒ",
    "ʧ": "tʃ",
    "ᵊ": "ə",
    "ᵻ": "ɪ",
    "T": "ɾ",
    "a": "æ",
}
"""What the voice writes as one sign of its own; all other signs are IPA as they are."""
ARTICLE = "ɐ"


def pronounce(word: Word, british: bool = False) -> str:
    """Look up how a word is said.

    Raises:
        DataError: It is in none of the dictionaries.
        MissingExtraError: It needs the dictionaries of misaki, which is not installed.
    """
    entry = vocabulary().get(word.kind, {}).get(word.text)
    if entry is not None:
        return entry[british]
    if word.text == "a":
        return ARTICLE
    for spelling in (word.text, word.text.capitalize(), word.text.upper()):
        for dictionary in (*_dictionaries(british), *_dictionaries(british=False)):
            if spelling in dictionary:
                value = dictionary[spelling]
                return value if isinstance(value, str) else value["DEFAULT"]
    raise DataError(
        f"no pronunciation for the word {word.text!r}", "write numbers and rare names as words that sound alike"
    )


def check(words: Iterable[Word]) -> None:
    """Look up every word once, so that a text is refused before any work is done on it.

    Raises:
        DataError: Some are in none of the dictionaries.
    """
    unknown: list[str] = []
    for word in dict.fromkeys(words):
        try:
            pronounce(word)
        except DataError:
            unknown.append(word.text)
    if unknown:
        raise DataError(
            f"no pronunciation for {len(unknown)} words: {', '.join(unknown[:8])}",
            "write numbers and rare names as words that sound alike",
        )


@lru_cache(maxsize=2)
def _dictionaries(british: bool) -> list[dict[str, str | dict[str, str]]]:
    data = folder("misaki") / "data"
    accent = "gb" if british else "us"
    names = (f"{accent}_gold.json", f"{accent}_silver.json")
    return [json.loads((data / name).read_text(encoding="utf-8")) for name in names]
