"""A wave -> its words by OpenAI's Whisper (Radford et al. 2022), run by the package `faster-whisper`."""

from typing import Any

from lipsound2.errors import CheckpointError, MissingExtraError
from lipsound2.recognizer import gate
from lipsound2.recognizer.base import Wave
from lipsound2.recognizer.config import GateConfig
from lipsound2.text.alphabet import Transcript, Word


class WhisperRecognizer:
    """Recognise with Whisper, which has an open alphabet with capitals, digits and punctuation.

    Args:
        size: A size such as `small.en`, downloaded and cached by the package, or the folder of a converted model.
        device: `cpu`, `cuda` or `auto`.
        language: Language code; None detects the language.
        config: Thresholds for rejecting silence and noise.

    Raises:
        MissingExtraError: The package is not installed.
        CheckpointError: The model cannot be loaded.
    """

    name = "whisper"
    sample_rate = 16_000

    def __init__(
        self,
        size: str = "small.en",
        device: str = "auto",
        language: str | None = "en",
        config: GateConfig | None = None,
    ) -> None:
        try:
            import faster_whisper
        except ImportError as error:
            raise MissingExtraError(
                "the recogniser whisper needs the package faster-whisper", 'pip install "lipsound2[whisper]"'
            ) from error
        try:
            self.model: Any = faster_whisper.WhisperModel(size, device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot load Whisper's model {size!r}: {error}", "give a folder, or fetch it while online"
            ) from error
        self.language = language
        self.config = config or GateConfig()

    def transcribe(self, wave: Wave) -> Transcript:
        """Return the words of a wave; none and a note for silence and noise."""
        note = gate.silence_note(wave, self.sample_rate, self.config)
        if note:
            return Transcript(note=note)
        segments, info = self.model.transcribe(
            wave, language=self.language, word_timestamps=True, vad_filter=True, condition_on_previous_text=False
        )
        found = tuple(
            Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
            for segment in segments
            for word in segment.words or ()
            if word.word.strip()
        )
        heard = Transcript(found, None if found else "no words recognised", language=info.language)
        return gate.keep_clear(heard, self.config)
