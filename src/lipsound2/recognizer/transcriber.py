"""A wave -> its words: a Jasper with its decoder, kept in a folder.

    recognizer/
      config.json          `JasperConfig`
      model.safetensors    its weights
      language.arpa        a language model for beam search, if there is one

Long waves are processed in windows, so that only the posteriors grow with their length.
"""

from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from lipsound2.config import CONFIG_NAME, to_json
from lipsound2.errors import CheckpointError
from lipsound2.recognizer import ctc, gate
from lipsound2.recognizer.base import Wave
from lipsound2.recognizer.beam import Beam, BeamConfig
from lipsound2.recognizer.config import JasperConfig
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import NGram, read_arpa, write_arpa
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.weights import WEIGHTS_NAME, load_folder, save_weights
from lipsound2.runtime.windows import cores
from lipsound2.text.alphabet import Alphabet, Transcript, Word

LANGUAGE_NAME = "language.arpa"
WINDOW, MARGIN = 30.0, 3.0
"""Length of a window, and context on each side, in seconds."""


@runtime_checkable
class Listener(Protocol):
    """Interface of what a `JasperRecognizer` decodes: a Jasper of torch, or an exported one."""

    config: JasperConfig

    def listen(self, wave: Wave) -> ctc.Frames:
        """Return the log-posteriors of one wave."""
        ...


class JasperRecognizer:
    """Recognise with a Jasper or QuartzNet.

    Args:
        model: In evaluation mode, on its device.
        language: Language model for beam search.
        beam: Settings of the beam search; None decodes greedily.
    """

    name = "jasper"

    def __init__(self, model: Listener, language: NGram | None = None, beam: BeamConfig | None = None) -> None:
        self.model = model
        self.alphabet = Alphabet(model.config.alphabet)
        self.sample_rate = model.config.features.sample_rate
        self.beam = Beam(self.alphabet, language, beam) if beam else None

    def transcribe(self, wave: Wave) -> Transcript:
        """Return the words of a wave; none and a note for silence and noise."""
        config = self.model.config
        none = Transcript(separator=self.alphabet.separator, language=config.written, doubtful=config.gate.doubtful)
        note = gate.silence_note(wave, self.sample_rate, config.gate)
        if note:
            return replace(none, note=note)
        values = self.posteriors(wave)
        if not len(values):
            return replace(none, note="too short to hold a word")
        found = self._words(values, ctc.best_path(values))
        greedy = replace(none, words=found, note=None if found else "no words recognised")
        clear = gate.keep_clear(greedy, config.gate)
        if self.beam is None or not clear.words:
            return clear
        # A language model finds words in anything, so it is used only where greedy decoding is confident.
        searched = self._words(values, ctc.align(values, self.beam.search(values)))
        return replace(clear, words=gate.near(searched, clear.words, config.gate.max_gap))

    def _words(self, values: ctc.Frames, path: list[int]) -> tuple[Word, ...]:
        config = self.model.config
        seconds = config.samples_per_frame / self.sample_rate
        return tuple(ctc.words(values, path, self.alphabet, seconds, config.timing))

    def posteriors(self, wave: Wave) -> ctc.Frames:
        """Return the log-posteriors of a wave, computed window by window."""
        step = self.model.config.samples_per_frame
        window, margin = (round(seconds * self.sample_rate / step) * step for seconds in (WINDOW, MARGIN))
        pieces = []
        for core in cores(len(wave), window, margin):
            values = self._window(wave[core.first : core.last])
            skip = (core.start - core.first) // step
            pieces.append(values[skip : skip + window // step])
        return np.concatenate(pieces)

    def _window(self, wave: Wave) -> ctc.Frames:
        if len(wave) < 2 * self.model.config.features.hop_length:
            return np.zeros((0, self.alphabet.blank + 1), np.float32)
        return self.model.listen(np.ascontiguousarray(wave))


def save_recognizer(
    folder: Path, model: Jasper, language: NGram | None = None, dtype: torch.dtype | None = None
) -> None:
    """Save a recogniser to a folder, with weights of `dtype` if given."""
    write_text(folder / CONFIG_NAME, to_json(model.config))
    save_weights(folder / WEIGHTS_NAME, model.state_dict(), dtype)
    if language:
        write_arpa(folder / LANGUAGE_NAME, language)


def load_jasper(folder: Path, device: torch.device | str = "cpu") -> Jasper:
    """Rebuild a Jasper from its folder, in evaluation mode.

    Raises:
        CheckpointError: The folder holds none, or the weights do not fit the configuration.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise CheckpointError(f"{folder} holds no recogniser", f"its folder holds {CONFIG_NAME} and {WEIGHTS_NAME}")
    return load_folder(folder, JasperConfig, Jasper, device)


def load_recognizer(
    folder: Path, device: torch.device | str = "cpu", beam: BeamConfig | None = None
) -> JasperRecognizer:
    """Load a recogniser, with its language model if it has one and `beam` is given."""
    path = folder / LANGUAGE_NAME
    language = read_arpa(path) if beam and path.is_file() else None
    return JasperRecognizer(load_jasper(folder, device), language, beam)
