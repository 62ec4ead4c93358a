"""A hypothesis -> the hypothesis without words in silence and noise."""

from dataclasses import replace

import numpy as np

from lipsound2.recognizer.base import Wave
from lipsound2.recognizer.config import GateConfig
from lipsound2.text.alphabet import Transcript, Word


def level(wave: Wave, sample_rate: int) -> float:
    """Return the level of the loudest tenth of a second in dB of full scale; -inf for digital silence."""
    size = sample_rate // 10
    padded = np.pad(wave, (0, -len(wave) % size)).reshape(-1, size)
    loudest = np.square(padded.astype(np.float64)).mean(axis=1).max(initial=0.0)
    return 10 * float(np.log10(loudest)) if loudest > 0 else -np.inf


def silence_note(wave: Wave, sample_rate: int, config: GateConfig) -> str | None:
    """Return a note if a wave is too quiet for speech, else None."""
    found = level(wave, sample_rate)
    return f"silence: nothing is louder than {found:.0f} dB of full scale" if found < config.min_level else None


def keep_clear(transcript: Transcript, config: GateConfig) -> Transcript:
    """Remove stretches of words with a confidence too low for speech, and note how many words were removed."""
    groups = stretches(transcript.words, config.max_gap)
    clear = [group for group in groups if _confidence(group) >= config.min_confidence]
    dropped = [word for group in groups if group not in clear for word in group]
    if not dropped:
        return transcript
    note = f"noise: {len(dropped)} words left out that were only {_confidence(dropped):.0%} certain"
    return replace(transcript, words=tuple(word for group in clear for word in group), note=note)


def near(words: tuple[Word, ...], others: tuple[Word, ...], max_gap: float) -> tuple[Word, ...]:
    """Return the words in a stretch of other words or within `max_gap` seconds of it."""
    spans = [(group[0].start - max_gap, group[-1].end + max_gap) for group in stretches(others, max_gap)]
    return tuple(word for word in words if any(start <= word.end and word.start <= end for start, end in spans))


def stretches(words: tuple[Word, ...], max_gap: float) -> list[list[Word]]:
    """Split words at pauses of more than `max_gap` seconds."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and word.start - groups[-1][-1].end <= max_gap:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _confidence(words: list[Word]) -> float:
    return float(np.mean([word.confidence for word in words]))
