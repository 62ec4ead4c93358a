"""A wave -> its words by PocketSphinx, an independent recogniser whose package includes an English model."""

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
"""Grammars by name. Chance level under GRID's is a WER of 81 %."""


class SphinxRecognizer:
    """Recognise with PocketSphinx; results do not depend on earlier calls.

    Args:
        grammar: One of `GRAMMARS`; by default its general model of English is used.

    Raises:
        MissingExtraError: The package is not installed.
        ConfigError: The grammar is unknown.
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
        """Return whether the package is installed."""
        return importlib.util.find_spec("pocketsphinx") is not None

    def transcribe(self, wave: Wave) -> Transcript:
        """Return the words of a wave; their confidence is not available and set to 1."""
        # Noise removal keeps state between calls.
        self.decoder.reinit_feat(self.decoder.config)
        pcm = (np.clip(wave, -1, 1) * 32767).astype(np.int16).tobytes()
        self.decoder.start_utt()
        if pcm:
            self.decoder.process_raw(pcm, full_utt=True)
        self.decoder.end_utt()
        if self.decoder.hyp() is None:
            return Transcript(note="no words recognised")
        rate = self.decoder.config["frate"]
        words = tuple(
            Word(segment.word.split("(")[0], segment.start_frame / rate, (segment.end_frame + 1) / rate, 1.0)
            for segment in self.decoder.seg()
            if segment.word[0] not in "<["
        )
        return Transcript(words, None if words else "no words recognised", language="en")
