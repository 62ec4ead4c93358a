"""A `Speech` -> a figure: the mel with words and faces over seconds and Hz, and the attention.

Up to `ROW` seconds are one row with the attention beside it; more are rows below each other, each with the attention
as a strip: how far from the frame that is spoken the decoder looks.

Drawn with Pillow and its built-in font, since `speak` makes one of every video: nothing is looked up on the machine or
kept in a cache, it starts at once, and the same speech always gives the same bytes.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from lipsound2.audio import DECIBEL, octave_bins
from lipsound2.config import AudioConfig
from lipsound2.inference.stretches import Stretch
from lipsound2.text.alphabet import Word

SIZE = (1320, 520)
ROW, MOST_ROWS = 30, 40
"""Seconds of a row, and rows beyond which rows become longer."""
LOOK = 10
"""Video frames, earlier and later, that the strip of attention shows."""
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_INK, _PALE = (40, 40, 40), (215, 215, 215)
_FACE, _LANE = 40, 17
"""Pixels of a portrait and of a line of words."""

Weights = Float[np.ndarray, "steps time"]
Alignments = Sequence[tuple[int, Weights]]


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


class Scene(NamedTuple):
    """What is seen and said.

    Attributes:
        title: Shown above, such as the name of the video.
        words: Written above the mel at their times.
        stretches: Where a face is seen; each shows its portrait where it begins, and a line if that is a cut.
        gaps: Where none is (from, to), in seconds.
    """

    title: str = ""
    words: tuple[Word, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()


class Span(NamedTuple):
    """The seconds that a panel shows."""

    start: float
    stop: float

    def place(self, time: float, panel: Panel) -> int:
        """Return the column of a time."""
        return panel.left + round((time - self.start) / max(self.stop - self.start, 1e-6) * panel.width)

    def holds(self, time: float) -> bool:
        """Return whether a time is shown."""
        return self.start <= time < self.stop


MEL = Panel(70, 124, 800, 460)
BAR = Panel(812, 124, 824, 460)
ALIGNMENT = Panel(940, 124, 1276, 460)
LONG = Panel(70, 140, 1230, 220)
"""The first of many rows."""
STRIP = Panel(70, 222, 1230, 243)
LONG_BAR = Panel(1242, 140, 1254, 220)
PITCH = 234
"""Pixels from one of many rows to the next."""


def draw(
    mel: Float[np.ndarray, "mels frames"], alignments: Alignments, audio: AudioConfig, fps: int, scene: Scene
) -> Image.Image:
    """Draw speech.

    Args:
        mel: Natural-log mel spectrogram.
        alignments: The first video frame of each window, and its attention (decoder steps x video frames).
        audio: Settings of the mel.
        fps: Video frames a second.
        scene: What is seen and said.

    Returns:
        An RGB picture; of `SIZE` pixels if it is one row.
    """
    seconds = mel.shape[1] * audio.hop_length / audio.sample_rate
    low, high = float(mel.min()), float(mel.max())
    brightness = (mel[::-1] - low) / max(high - low, 1e-6)
    rows = _rows(seconds)
    picture = Image.new("RGB", SIZE if len(rows) == 1 else (SIZE[0], LONG.top + PITCH * len(rows)), "white")
    pen = ImageDraw.Draw(picture)
    _text(pen, (MEL.left, 10), scene.title, 18, limit=SIZE[0] - MEL.left - 20)
    if len(rows) == 1:
        _row(picture, pen, MEL, rows[0], brightness, audio, scene, lanes=2)
        _text(pen, (MEL.left + MEL.width // 2, MEL.bottom + 30), "seconds", 14, "ma")
        _bar(picture, pen, BAR, low * DECIBEL, high * DECIBEL)
        if alignments:
            _square(picture, pen, alignments, seconds, fps)
        return picture
    strip = _offsets(alignments, round(seconds * fps)) if alignments else None
    for number, span in enumerate(rows):
        panel, below, bar = (_down(each, number * PITCH) for each in (LONG, STRIP, LONG_BAR))
        first, last = (round(time / seconds * mel.shape[1]) for time in span)
        part = np.zeros((mel.shape[0], last - first))
        shown = brightness[:, first:last]
        part[:, : shown.shape[1]] = shown
        _row(picture, pen, panel, span, part, audio, scene, lanes=3)
        _bar(picture, pen, bar, low * DECIBEL, high * DECIBEL)
        if strip is not None:
            _strip(picture, pen, below, span, strip, fps)
    return picture


def _rows(seconds: float) -> list[Span]:
    """Return what each row shows; all but a lone one are of the same length."""
    if seconds <= ROW:
        return [Span(0.0, seconds)]
    length = max(ROW, ceil(seconds / MOST_ROWS / 10) * 10)
    return [Span(float(start), float(start + length)) for start in range(0, ceil(seconds), length)]


def _row(
    picture: Image.Image,
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    span: Span,
    brightness: Float[np.ndarray, "mels _"],
    audio: AudioConfig,
    scene: Scene,
    lanes: int,
) -> None:
    """Draw the mel of some seconds with all that is seen and said in them."""
    _paste(picture, panel, brightness)
    for start, stop in scene.gaps:
        _gap(pen, panel, span, start, stop)
    for one, other in pairwise(scene.stretches):
        if abs(one.stop - other.start) < 1e-3 and span.holds(other.start):
            x = span.place(other.start, panel)
            pen.line([(x, panel.top - _LANE * lanes - 8), (x, panel.bottom)], fill="red")
    _portraits(picture, panel, span, scene.stretches, lanes)
    _words(pen, panel, span, scene.words, lanes)
    _seconds(pen, panel, span)
    _hertz(pen, panel, audio)


def _gap(pen: ImageDraw.ImageDraw, panel: Panel, span: Span, start: float, stop: float) -> None:
    left, right = (span.place(min(max(time, span.start), span.stop), panel) for time in (start, stop))
    if left < right:
        pen.rectangle([left, panel.top, right - 1, panel.bottom - 1], fill=_PALE)
        if right - left > 60:
            _text(pen, ((left + right) // 2, (panel.top + panel.bottom) // 2), "no face", 14, "mm")


def _portraits(picture: Image.Image, panel: Panel, span: Span, stretches: Iterable[Stretch], lanes: int) -> None:
    """Show each face where its stretch, or the row, begins; one without room is left out."""
    free = 0
    for stretch in stretches:
        x = span.place(max(stretch.start, span.start), panel)
        if stretch.portrait is None or stretch.stop <= span.start or stretch.start >= span.stop or x < free:
            continue
        face = cv2.resize(stretch.portrait, (_FACE, _FACE), interpolation=cv2.INTER_AREA)
        picture.paste(Image.fromarray(face), (x, panel.top - _LANE * lanes - 10 - _FACE))
        free = x + _FACE + 3


def _square(picture: Image.Image, pen: ImageDraw.ImageDraw, alignments: Alignments, seconds: float, fps: int) -> None:
    span = Span(0.0, seconds)
    _paste(picture, ALIGNMENT, overview(alignments, seconds * fps, ALIGNMENT.width)[::-1])
    _seconds(pen, ALIGNMENT, span)
    _seconds(pen, ALIGNMENT, span, upwards=True)
    _text(pen, (ALIGNMENT.left, ALIGNMENT.top - 24), "attention: where the decoder looks (s)", 14)
    _text(pen, (ALIGNMENT.left + ALIGNMENT.width // 2, ALIGNMENT.bottom + 30), "speech (s)", 14, "ma")


def overview(alignments: Alignments, frames: float, size: int) -> Float[np.ndarray, "height width"]:
    """Scale the windows of a video to a square of video x speech; where it is coarser, the largest weight counts."""
    square = np.zeros((size, size), np.float64)
    for start, weights in alignments:
        place, end = (min(round(frame / frames * size), size) for frame in (start, start + weights.shape[1]))
        scaled = _enlarged(weights.T.astype(np.float64), max(1, end - place))
        part = square[place : place + len(scaled), place : place + scaled.shape[1]]
        np.maximum(part, scaled[: part.shape[0], : part.shape[1]], out=part)
    return square


def _offsets(alignments: Alignments, frames: int) -> Float[np.ndarray, "offsets frames"]:
    """Return how much each frame of speech looks so many video frames later (above) or earlier (below)."""
    strip = np.zeros((2 * LOOK + 1, frames))
    for start, weights in alignments:
        steps, times = weights.shape
        spoken = np.arange(times)
        rows = weights[np.minimum(spoken * steps // times, steps - 1)]
        for row, offset in enumerate(range(LOOK, -LOOK - 1, -1)):
            seen = spoken + offset
            inside = (seen >= 0) & (seen < times) & (start + spoken < frames)
            here = start + spoken[inside]
            strip[row, here] = np.maximum(strip[row, here], rows[spoken[inside], seen[inside]])
    return strip


def _strip(
    picture: Image.Image,
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    span: Span,
    strip: Float[np.ndarray, "offsets frames"],
    fps: int,
) -> None:
    place = Panel(panel.left, panel.top + 26, panel.right, panel.bottom + 26)
    part = strip[:, round(span.start * fps) : round(span.stop * fps)]
    whole = np.zeros((len(strip), round((span.stop - span.start) * fps)))
    whole[:, : part.shape[1]] = part
    _paste(picture, place, whole)
    _text(pen, (place.left - 8, place.top + place.height // 2), "attention", 13, "rm")
    _text(pen, (place.right + 6, place.top + place.height // 2), f"±{LOOK / fps:g} s", 13, "lm")


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


def _seconds(pen: ImageDraw.ImageDraw, panel: Panel, span: Span, upwards: bool = False) -> None:
    length, seconds = (panel.height if upwards else panel.width), span.stop - span.start
    step = next((step for step in _STEPS if seconds / step * (46 if not upwards else 24) <= length), _STEPS[-1])
    for number in range(ceil(span.start / step - 1e-6), int(span.stop / step + 1e-6) + 1):
        value = float(number * step)
        place = round((value - span.start) / max(seconds, 1e-6) * length)
        if upwards:
            y = panel.bottom - place
            pen.line([(panel.left - 5, y), (panel.left, y)], fill=_INK)
            _text(pen, (panel.left - 8, y), f"{value:g}", 13, "rm")
        else:
            x = panel.left + place
            pen.line([(x, panel.bottom), (x, panel.bottom + 5)], fill=_INK)
            _text(pen, (x, panel.bottom + 8), clock(value) if span.stop > 60 else f"{value:g}", 13, "ma")


def clock(seconds: float) -> str:
    """Write a time in minutes, or hours, and seconds.

    >>> clock(75), clock(3661)
    ('1:15', '1:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _hertz(pen: ImageDraw.ImageDraw, panel: Panel, audio: AudioConfig) -> None:
    last = panel.bottom + 99
    for hertz, place in octave_bins(audio).items():
        y = panel.bottom - round((place + 0.5) / audio.n_mels * panel.height)
        if last - y >= 14:
            pen.line([(panel.left - 5, y), (panel.left, y)], fill=_INK)
            _text(pen, (panel.left - 8, y), f"{hertz}", 13, "rm")
            last = y
    _text(pen, (8, panel.top - 24), "Hz", 14)


def _words(pen: ImageDraw.ImageDraw, panel: Panel, span: Span, words: Iterable[Word], lanes: int) -> None:
    """Write words where they are said, in the lowest line that has room; one that has none is left out."""
    free = [0.0] * lanes
    for word in sorted(words, key=lambda word: word.start):
        x = span.place(word.start, panel)
        lane = next((lane for lane in range(lanes) if x >= free[lane]), None)
        if not span.holds(word.start) or lane is None:
            continue
        y = panel.top - 8 - _LANE * (lane + 1)
        pen.line([(x, y + 15), (x, panel.top - 1)], fill=_INK if lane == 0 else _PALE)
        _text(pen, (x, y), word.text, 14)
        free[lane] = x + _font(14).getlength(word.text) + 5


def _bar(picture: Image.Image, pen: ImageDraw.ImageDraw, panel: Panel, low: float, high: float) -> None:
    _paste(picture, panel, np.linspace(1, 0, 256)[:, None])
    for level, y in ((high, panel.top), ((low + high) / 2, (panel.top + panel.bottom) // 2), (low, panel.bottom)):
        _text(pen, (panel.right + 6, y), f"{level:.0f} dB", 13, "lm")


def _down(panel: Panel, pixels: int) -> Panel:
    return panel._replace(top=panel.top + pixels, bottom=panel.bottom + pixels)


def _text(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, anchor: str = "la", limit: int = 0
) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\n", " ")
    while limit and len(text) > 1 and _font(size).getlength(text) > limit:
        text = f"{text[: len(text) * 9 // 10 - 1]}…"
    pen.text(place, text, fill=_INK, font=_font(size), anchor=anchor)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
