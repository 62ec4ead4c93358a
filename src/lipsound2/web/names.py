"""What a browser says a file is called -> a name that can only be shown, never a path."""

import re
import unicodedata

LONGEST = 80
"""Characters of a name that is shown."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that end lines, turn the direction of text or are not seen."""


def shown(name: str) -> str:
    """Return the last part of a name without what cannot be seen, and `video` if nothing is left.

    >>> shown("C:/secret/../me.mp4")
    'me.mp4'
    """
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(" " if unicodedata.category(each) in _HIDDEN else each for each in last)
    return " ".join(visible.split()).strip(". ")[:LONGEST].strip(". ") or "video"


def stem(name: str) -> str:
    """Return a shown name without its suffix."""
    return name.rsplit(".", 1)[0].strip(". ") or "video"
