"""A `Speech` -> a figure: the mel with its words over seconds and Hz, and the attention.

Drawn with Pillow and its built-in font, since `speak` makes one of every video: nothing is looked up on the machine or
kept in a cache, it starts at once, and the same speech always gives the same bytes.
"""

from collections.abc import Iterable, Sequence
from math import log
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from lipsound2.audio import mel_frequencies
from lipsound2.config import AudioConfig
from lipsound2.text.alphabet import Word

SIZE = (1320, 480)
DECIBEL = 20 / log(10)
"""Of one natural-log unit of magnitude."""
_HERTZ = (250, 500, 1000, 2000, 4000, 8000)
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_INK = (40, 40, 40)

Weights = Float[np.ndarray, "steps time"]


class Panel(NamedTuple):
    """A rectangle of the picture, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.bottom - self.top


MEL = Panel(70, 84, 800, 420)
BAR = Panel(812, 84, 824, 420)
ALIGNMENT = Panel(940, 84, 1276, 420)


def draw(
    mel: Float[np.ndarray, "mels frames"],
    alignments: Sequence[tuple[int, Weights]],
    audio: AudioConfig,
    fps: int,
    title: str,
    words: Iterable[Word] = (),
) -> Image.Image:
    """Draw speech.

    Args:
        mel: Natural-log mel spectrogram.
        alignments: The first video frame of each window, and its attention (decoder steps x video frames).
        audio: Settings of the mel.
        fps: Video frames a second.
        title: Shown above, such as the name of the video.
        words: Written above the mel at their times.

    Returns:
        An RGB picture of `SIZE` pixels.
    """
    picture = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(picture)
    seconds = mel.shape[1] * audio.hop_length / audio.sample_rate
    low, high = float(mel.min()), float(mel.max())
    _paste(picture, MEL, (mel[::-1] - low) / max(high - low, 1e-6))
    _text(pen, (MEL.left, 14), title, 18, limit=SIZE[0] - MEL.left - 20)
    _words(pen, words, seconds)
    _seconds(pen, MEL, seconds)
    _hertz(pen, audio)
    _text(pen, (MEL.left + MEL.width // 2, MEL.bottom + 30), "seconds", 14, "ma")
    _bar(picture, pen, low * DECIBEL, high * DECIBEL)
    if alignments:
        _paste(picture, ALIGNMENT, _joined(alignments, seconds * fps)[::-1])
        _seconds(pen, ALIGNMENT, seconds)
        _seconds(pen, ALIGNMENT, seconds, upwards=True)
        _text(pen, (ALIGNMENT.left, ALIGNMENT.top - 24), "attention: where the decoder looks (s)", 14)
        _text(pen, (ALIGNMENT.left + ALIGNMENT.width // 2, ALIGNMENT.bottom + 30), "speech (s)", 14, "ma")
    return picture


def _joined(alignments: Sequence[tuple[int, Weights]], frames: float) -> Float[np.ndarray, "height width"]:
    """Scale windows to the panel's size; where it is coarser than they are, the largest weight counts."""
    size = ALIGNMENT.width
    square = np.zeros((size, size), np.float64)
    for start, weights in alignments:
        place, end = (min(round(frame / frames * size), size) for frame in (start, start + weights.shape[1]))
        scaled = _enlarged(weights.T.astype(np.float64), max(1, end - place))
        part = square[place : place + len(scaled), place : place + scaled.shape[1]]
        np.maximum(part, scaled[: part.shape[0], : part.shape[1]], out=part)
    return square


def _enlarged(values: Float[np.ndarray, "a b"], size: int) -> Float[np.ndarray, "size size"]:
    """Bring a matrix to `size` x `size` by repetition, or by the largest value of each cell."""
    for axis in (0, 1):
        length = values.shape[axis]
        edges = np.arange(size) * length // size
        values = np.maximum.reduceat(values, edges, axis=axis) if length > size else values.take(edges, axis=axis)
    return values


def _paste(picture: Image.Image, panel: Panel, values: Float[np.ndarray, "rows columns"]) -> None:
    """Fill a panel with values in 0..1, coloured by viridis."""
    grey: UInt8[np.ndarray, "rows columns"] = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    shrinks = grey.shape[1] > panel.width
    grey = cv2.resize(
        grey, (panel.width, panel.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST_EXACT
    )
    colours = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    picture.paste(Image.fromarray(colours), (panel.left, panel.top))


def _seconds(pen: ImageDraw.ImageDraw, panel: Panel, seconds: float, upwards: bool = False) -> None:
    length = panel.height if upwards else panel.width
    step = next((step for step in _STEPS if seconds / step * (46 if not upwards else 24) <= length), _STEPS[-1])
    for number in range(int(seconds / step + 1e-6) + 1):
        value = number * step
        place = round(value / max(seconds, 1e-6) * length)
        if upwards:
            y = panel.bottom - place
            pen.line([(panel.left - 5, y), (panel.left, y)], fill=_INK)
            _text(pen, (panel.left - 8, y), f"{value:g}", 13, "rm")
        else:
            x = panel.left + place
            pen.line([(x, panel.bottom), (x, panel.bottom + 5)], fill=_INK)
            _text(pen, (x, panel.bottom + 8), f"{value:g}", 13, "ma")


def _hertz(pen: ImageDraw.ImageDraw, audio: AudioConfig) -> None:
    centres = mel_frequencies(audio.n_mels + 2, audio.f_min, audio.f_max)[1:-1]
    for hertz in _HERTZ:
        if centres[0] <= hertz <= audio.f_max:
            y = MEL.bottom - round(
                (float(np.interp(hertz, centres, np.arange(audio.n_mels))) + 0.5) / audio.n_mels * MEL.height
            )
            pen.line([(MEL.left - 5, y), (MEL.left, y)], fill=_INK)
            _text(pen, (MEL.left - 8, y), f"{hertz}", 13, "rm")
    _text(pen, (8, MEL.top - 24), "Hz", 14)


def _words(pen: ImageDraw.ImageDraw, words: Iterable[Word], seconds: float) -> None:
    """Write words where they are said; one that has no room beside the last is left out."""
    free = 0.0
    for word in words:
        x = MEL.left + round(word.start / max(seconds, 1e-6) * MEL.width)
        if x >= free:
            pen.line([(x, MEL.top - 8), (x, MEL.top - 1)], fill=_INK)
            _text(pen, (x, MEL.top - 26), word.text, 14)
            free = x + _font(14).getlength(word.text) + 5


def _bar(picture: Image.Image, pen: ImageDraw.ImageDraw, low: float, high: float) -> None:
    _paste(picture, BAR, np.linspace(1, 0, 256)[:, None])
    for level, y in ((high, BAR.top), ((low + high) / 2, (BAR.top + BAR.bottom) // 2), (low, BAR.bottom)):
        _text(pen, (BAR.right + 6, y), f"{level:.0f} dB", 13, "lm")


def _text(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, anchor: str = "la", limit: int = 0
) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\n", " ")
    while limit and len(text) > 1 and _font(size).getlength(text) > limit:
        text = f"{text[: len(text) * 9 // 10 - 1]}…"
    pen.text(place, text, fill=_INK, font=_font(size), anchor=anchor)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
