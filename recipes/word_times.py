"""What `lipsound2 read -f json` wrote and GRID's own alignments -> how many words are read when they are said.

lipsound2 read clips/ -f json -o out/
python recipes/word_times.py out/ GRID/align/s1/
"""

import json
import sys
from difflib import SequenceMatcher
from pathlib import Path

from lipsound2.corpora.grid import Word, read_alignment

NEAR = 0.2
"""Seconds by which the start or the end may be off."""


def matches(read: list[Word], said: list[Word]) -> list[tuple[Word, Word]]:
    """Pair the words that were read correctly with those that were said."""
    matcher = SequenceMatcher(None, [word.text for word in read], [word.text for word in said], autojunk=False)
    return [
        (read[block.a + i], said[block.b + i]) for block in matcher.get_matching_blocks() for i in range(block.size)
    ]


def main(out: Path, alignments: Path) -> None:
    """Print the share of correctly read words whose start and end are near, and the mean errors."""
    pairs: list[tuple[Word, Word]] = []
    total = 0
    for path in sorted(out.rglob("*.json")):
        segments = json.loads(path.read_text(encoding="utf-8"))["segments"]
        read = [Word(word["word"], word["start"], word["end"]) for part in segments for word in part["words"]]
        said = read_alignment(alignments / f"{path.stem}.align")
        total += len(said)
        pairs += matches(read, said)
    starts = [read.start - said.start for read, said in pairs]
    ends = [read.end - said.end for read, said in pairs]
    near = sum(abs(start) <= NEAR and abs(end) <= NEAR for start, end in zip(starts, ends, strict=True))
    count = max(len(pairs), 1)
    print(f"{len(pairs)} of {total} words read correctly, {near / count:.1%} of them within {NEAR} s")
    print(f"starts {sum(starts) / count:+.3f} s, ends {sum(ends) / count:+.3f} s on average")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
