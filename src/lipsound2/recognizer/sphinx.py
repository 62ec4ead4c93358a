"""A wave -> its words by PocketSphinx, whose package carries an English model: a judge that needs no network."""

import importlib.util

import numpy as np

from lipsound2.errors import ConfigError, MissingExtraError
from lipsound2.recognizer.base import Wave
from lipsound2.text.alphabet import Transcript, Word

GRAMMARS = {
    "grid": "(bin | lay | place | set) (blue | green | red | white) (at | by | in | with) "
    "(a | b | c | d | e | f | g | h | i | j | k | l | m | n | o | p | q | r | s | t | u | v | x | y | z) "
    "(zero | one | two | three | four | five | six | seven | eight | nine) (again | now | please | soon)"
}
"""What can be said at all, by name. Guessing under GRID's gives a word error rate of 81 %."""


class SphinxRecognizer:
    """Read with PocketSphinx; the same wave always gives the same words, whatever was heard before.

    Args:
        grammar: One of `GRAMMARS`; without one its general model of English is used.

    Raises:
        MissingExtraError: The package is not installed.
        ConfigError: There is no such grammar.
    """

    name = "pocketsphinx"
    sample_rate = 16_000

    def __init__(self, grammar: str = "") -> None:
        if not self.installed():
            raise MissingExtraError("the recogniser pocketsphinx is not installed", 'pip install "lipsound2[evaluate]"')
        import pocketsphinx

        self.decoder = pocketsphinx.Decoder(loglevel="FATAL", cmn="batch", samprate=self.sample_rate)
        if grammar:
            if grammar not in GRAMMARS:
                raise ConfigError(f"no grammar {grammar!r}", f"known: {', '.join(GRAMMARS)}")
            self.decoder.add_jsgf_string(
                grammar, f"#JSGF V1.0; grammar {grammar}; public <sentence> = {GRAMMARS[grammar]};"
            )
            self.decoder.activate_search(grammar)

    @staticmethod
    def installed() -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec("pocketsphinx") is not None

    def transcribe(self, wave: Wave) -> Transcript:
        """Give the words of a wave; their confidence is not known and said to be 1."""
        # Noise removal remembers what it heard before.
        self.decoder.reinit_feat(self.decoder.config)
        pcm = (np.clip(wave, -1, 1) * 32767).astype(np.int16).tobytes()
        self.decoder.start_utt()
        if pcm:
            self.decoder.process_raw(pcm, full_utt=True)
        self.decoder.end_utt()
        if self.decoder.hyp() is None:
            return Transcript(note="no words heard")
        rate = self.decoder.config["frate"]
        words = tuple(
            Word(segment.word.split("(")[0], segment.start_frame / rate, (segment.end_frame + 1) / rate, 1.0)
            for segment in self.decoder.seg()
            if segment.word[0] not in "<["
        )
        return Transcript(words, None if words else "no words heard")
