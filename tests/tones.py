"""A language of tones: each letter is a tone of its own, so that a tiny recogniser learns it in seconds."""

import json
from pathlib import Path

import numpy as np

from lipsound2.data.sample import Sample, encode_wave
from lipsound2.data.shards import INDEX_NAME, to_lines, write_shard
from lipsound2.recognizer.config import BlockConfig, JasperConfig
from lipsound2.runtime.atomic import write_text

RATE = 16_000
LETTER, GAP = 0.12, 0.04
"""Seconds of a letter, which a space lasts too, and of the silence behind it."""


def say(text: str, letters: str, start: float = 0.3) -> np.ndarray:
    """Make the sound of a text, with `start` seconds of silence before it and behind it."""
    time = np.arange(round(LETTER * RATE)) / RATE
    quiet = np.zeros(round(GAP * RATE))
    tones = [np.zeros(round(start * RATE))]
    for letter in text:
        pitch = 0.0 if letter == " " else 400 * 1.5 ** letters.index(letter)
        tones += [0.3 * np.sin(2 * np.pi * pitch * time) * np.hanning(len(time)), quiet]
    wave = np.concatenate([*tones, np.zeros(round(start * RATE))])
    return (wave + 1e-3 * np.random.default_rng(0).standard_normal(len(wave))).astype(np.float32)


def sentence(letters: str, rng: np.random.Generator) -> str:
    """Draw two or three words of one to three letters; without a space among the letters they make one."""
    known = letters.replace(" ", "")
    words = ["".join(rng.choice(list(known), rng.integers(1, 4))) for _ in range(rng.integers(2, 4))]
    return (" " if " " in letters else "").join(words)


def times(text: str, start: float = 0.3) -> list[tuple[float, float]]:
    """Return when each word is said."""
    step = LETTER + GAP
    ends, found = 0, []
    for word in text.split():
        first = text.index(word, ends)
        ends = first + len(word)
        found.append((start + first * step, start + ends * step - GAP))
    return found


def corpus(folder: Path, texts: dict[str, list[str]], letters: str) -> Path:
    """Write texts, by split, as a prepared folder without pictures."""
    index = []
    for split, lines in texts.items():
        samples = []
        for number, text in enumerate(lines):
            known = {"id": f"tone/{split}{number}", "speaker": "tone", "split": split, "transcript": text}
            meta = known | {"sample_rate": RATE, "fps": 25, "frames": 0}
            files = {"json": json.dumps(meta).encode(), "flac": encode_wave(say(text, letters), RATE)}
            samples.append(Sample(known["id"], files, meta))
        index += write_shard(folder / f"{split}-00000.tar", samples)
    write_text(folder / INDEX_NAME, to_lines(index))
    return folder


def tiny(alphabet: str, filters: int = 24) -> JasperConfig:
    """Return the smallest Jasper that has all its parts."""
    return JasperConfig(
        blocks=(
            BlockConfig(filters, 5, stride=2),
            BlockConfig(filters, 5, 2, residual="dense"),
            BlockConfig(filters, 5, residual="dense"),
            BlockConfig(filters, 5, dilation=2),
            BlockConfig(filters, 1),
        ),
        alphabet=alphabet,
    )
