"""GRID's grammar -> the language model of a recogniser's beam: `python recipes/grid_language.py RECOGNIZER`.

RECOGNIZER is the `best/` of a run, or a pack's `recognizer/`. Triples of words are counted in sentences drawn from the
64,000 of the grammar, so that the model knows which words may follow which, and no sentence by heart.
"""

import random
import sys
from pathlib import Path

from lipsound2.recognizer.ngram import train_ngram, write_arpa
from lipsound2.recognizer.transcriber import LANGUAGE_NAME
from lipsound2.simulate.sentences import grammar

SENTENCES = 20_000
ORDER = 3


def main(recognizer: Path) -> None:
    """Write the language model into the recogniser's folder."""
    grid = grammar("grid")
    chosen = random.Random(0).sample(range(grid.size), SENTENCES)
    sentences = [grid.sentence(number).transcript.split() for number in chosen]
    write_arpa(recognizer / LANGUAGE_NAME, train_ngram(sentences, ORDER))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
