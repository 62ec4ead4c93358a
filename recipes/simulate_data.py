"""The npm package kokoro-js and the PyPI package misaki -> the voices and words that `simulate` carries.

Both sources are under the Apache License 2.0. To make the two files again:

    npm pack kokoro-js@1.2.1 && tar xzf kokoro-js-1.2.1.tgz && pip install "misaki==0.9.4"
    python recipes/simulate_data.py package/voices src/lipsound2/simulate
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from lipsound2.simulate.packages import folder

LENGTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128)
"""Token counts whose style vector is kept; a voice's style changes slowly with the length of the sentence."""

KINDS = {
    "command": "bin lay place set",
    "colour": "blue green red white",
    "preposition": "at by in with",
    "letter": "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "digit": "zero one two three four five six seven eight nine",
    "adverb": "again now please soon",
    "determiner": "the my your this every his her our that",
    "adjective": (
        "old big small happy quiet purple yellow brave famous heavy warm cheap rough smooth bitter foreign "
        "gentle thick thin young perfect broken hungry modern silver empty early former vague proud shallow"
    ),
    "noun": (
        "boat farmer teacher window river market mother father baby village picture bottle hammer puppy "
        "garden coffee table ship church valley weather thief judge lamp pilot feather mountain pepper bridge "
        "pumpkin movie music wolf beach chef baker book sofa tooth voice engine jacket vision camera problem"
    ),
    "verb": (
        "found gave made left took saw heard held kept sold lost built broke drove chose wore drew threw won caught "
        "fed met hid shook felt brought forgot bought sought fought loaded put"
    ),
    "place": "near behind below above before after beside under over from without through",
    "time": "today tomorrow yesterday forever again often maybe together twice slowly",
}


def main(voices: Path, target: Path) -> None:
    """Write `voices.npz` and `words.csv` into the folder `target`."""
    rows = [length - 1 for length in LENGTHS]
    styles = {
        path.stem: np.fromfile(path, "<f4").reshape(510, 256)[rows].astype(np.float16)
        for path in sorted(voices.glob("[ab][fm]_*.bin"))
    }
    np.savez_compressed(target / "voices.npz", lengths=np.array(LENGTHS), **styles)
    us = dictionary("us_gold.json") | {"the": "ðə"}
    gb = dictionary("gb_gold.json") | {"Z": "zˈɛd"}
    with (target / "words.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["kind", "word", "us", "gb"])
        for kind, words in KINDS.items():
            for word in words.split():
                key = word.upper() if kind == "letter" else word
                table.writerow([kind, word, us[key], gb.get(key, us[key])])


def dictionary(name: str) -> dict[str, str]:
    """Read a dictionary of misaki, taking the default of each word with several readings."""
    entries = json.loads((folder("misaki") / "data" / name).read_text(encoding="utf-8"))
    return {word: value if isinstance(value, str) else value["DEFAULT"] for word, value in entries.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
