"""Mels, alignments and waves -> figures."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from lipsound2.audio import DECIBEL, MelScale, octave_bins


def mels(
    spectrograms: Mapping[str, Float[np.ndarray, "mels _"]], scale: MelScale, beside: bool = False, unit: str = "dB"
) -> Figure:
    """Draw log-mel spectrograms over seconds and Hz, on one scale; their lengths may differ.

    Args:
        spectrograms: Natural-log mels by title; of another unit, as they are.
        scale: Their frames and bins.
        beside: Whether beside each other, in the place of below.
        unit: What the values are, shown with the colours.
    """
    factor = DECIBEL if unit == "dB" else 1.0
    values = {name: factor * mel for name, mel in spectrograms.items()}
    count = len(values)
    size, grid = ((4.5 * count, 2.6), (1, count)) if beside else ((8, 2.2 * count), (count, 1))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(*grid, squeeze=False, sharex=True, sharey=True).ravel()
    low, high = min(float(mel.min()) for mel in values.values()), max(float(mel.max()) for mel in values.values())
    for axis, (name, mel) in zip(axes, values.items(), strict=True):
        extent = (0.0, mel.shape[1] * scale.hop_length / scale.sample_rate, -0.5, scale.n_mels - 0.5)
        image = axis.imshow(
            mel, origin="lower", aspect="auto", vmin=low, vmax=high, interpolation="none", extent=extent
        )
        axis.set_title(name)
    for axis in axes if beside else axes[-1:]:
        axis.set_xlabel("seconds")
    bins = octave_bins(scale)
    for axis in axes[:1] if beside else axes:
        axis.set_yticks(list(bins.values()), [str(hertz) for hertz in bins])
        axis.set_ylabel("Hz")
    axes[0].set_xlim(0.0, max(mel.shape[1] for mel in values.values()) * scale.hop_length / scale.sample_rate)
    figure.colorbar(image, ax=list(axes), label=unit)
    return figure


def alignment(weights: Float[np.ndarray, "steps time"], seconds: float) -> Figure:
    """Draw where each decoder step looks in a video of so many seconds."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    extent = (0.0, seconds, 0.0, seconds)
    image = axis.imshow(weights.T, origin="lower", aspect="auto", interpolation="none", extent=extent)
    axis.set(xlabel="speech (s)", ylabel="video (s)")
    figure.colorbar(image, ax=axis, label="attention")
    return figure


def waveforms(waves: Mapping[str, Float[np.ndarray, " _"]], sample_rate: int) -> Figure:
    """Draw waves below each other on one scale."""
    figure = Figure(figsize=(8, 1.6 * len(waves)), layout="constrained")
    axes = figure.subplots(len(waves), squeeze=False, sharex=True, sharey=True)[:, 0]
    for axis, (name, wave) in zip(axes, waves.items(), strict=True):
        axis.plot(np.arange(len(wave)) / sample_rate, wave, linewidth=0.4)
        axis.set(title=name, ylabel="amplitude")
    axes[-1].set_xlabel("seconds")
    return figure


def distributions(groups: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw each figure of each group as a dot, with the group's quartiles."""
    figure = Figure(figsize=(6, 0.9 + 0.5 * len(groups)), layout="constrained")
    axis = figure.subplots()
    for place, values in enumerate(groups.values()):
        # Dots are spread by their number, not by chance, so that the picture is always the same.
        heights = place + 0.32 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
        axis.scatter(values, heights, s=9, alpha=0.6)
        if values:
            axis.plot(np.percentile(values, [25, 75]), [place, place], color="black", linewidth=1)
            axis.plot(np.median(values), place, "|", color="black", markersize=14)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set_xlabel(label)
    return figure


def training(records: Sequence[Mapping[str, float | int]]) -> Figure:
    """Draw the validation figures of a run over its epochs, each on its own scale."""
    names = [name for name in dict.fromkeys(name for record in records for name in record) if name not in _COUNTERS]
    figure = Figure(figsize=(4 * min(len(names), 3), 2.6 * -(-len(names) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(names) // 3), min(len(names), 3), squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        known = [record for record in records if name in record]
        axis.plot([record["epoch"] for record in known], [record[name] for record in known], marker=".")
        axis.set(title=name, xlabel="epoch")
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    return figure


_COUNTERS = ("epoch", "step", "score")
"""What a line of `metrics.jsonl` holds besides figures to draw."""
