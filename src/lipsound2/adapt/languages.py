"""Transcripts -> the language that they seem to be in, by its most frequent words."""

import re
from collections import Counter
from collections.abc import Iterable

COMMON = {
    "English": "the a of to and in is that it for with at by on be this now you i not have please",
    "German": "der die das und ist ich nicht ein eine zu mit auf den dem von es sie wir auch so für",
    "French": "le la les de des et est je ne pas un une que qui dans pour vous il elle nous ce au",
    "Spanish": "el la los las de y es no un una que en por con para lo se me su como del al",
    "Italian": "il la di e che non un una per con sono è mi si lo gli del della come ma più anche",
    "Portuguese": "o a os as de e que não um uma em por com para se do da no na eu você mais",
    "Dutch": "de het een en van is ik niet dat die in te met op voor zijn er maar ook je we",
    "Polish": "i w na nie się to z że jest do jak ale co po tak za od czy mam ja przez",
}
"""Function words by language."""
SCRIPTS = {"Cyrillic": "[а-яё]", "Chinese": "[一-鿿]", "Japanese": "[ぁ-ヿ]", "Arabic": "[ء-ي]", "Greek": "[α-ω]"}
LEAST = 0.12
"""Share of words that must be common ones of a language."""


def guess_language(texts: Iterable[str]) -> str:
    """Return the name of a language, or of a script that tells enough; `unknown` if it cannot be told.

    >>> guess_language(["bin blue at f two now", "lay red with p nine please"])
    'English'
    """
    whole = " ".join(texts).lower()
    letters = len(re.findall(r"\w", whole))
    for script, pattern in SCRIPTS.items():
        if len(re.findall(pattern, whole)) > 0.3 * max(1, letters):
            return script
    counts = Counter(re.findall(r"[^\W\d_]+", whole))
    total = sum(counts.values())
    shares = {name: sum(counts[word] for word in words.split()) for name, words in COMMON.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if total and shares[best] >= LEAST * total else "unknown"
