"""Mels, alignments and waves -> figures."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.figure import Figure


def mels(spectrograms: Mapping[str, Float[np.ndarray, "mels frames"]]) -> Figure:
    """Draw log-mel spectrograms below each other on one scale."""
    figure = Figure(figsize=(8, 2.2 * len(spectrograms)), layout="constrained")
    axes = figure.subplots(len(spectrograms), squeeze=False)[:, 0]
    low = min(float(mel.min()) for mel in spectrograms.values())
    high = max(float(mel.max()) for mel in spectrograms.values())
    for axis, (name, mel) in zip(axes, spectrograms.items(), strict=True):
        image = axis.imshow(mel, origin="lower", aspect="auto", vmin=low, vmax=high, interpolation="none")
        axis.set(title=name, ylabel="mel bin")
    axes[-1].set_xlabel("frame")
    figure.colorbar(image, ax=list(axes), label="natural log")
    return figure


def alignment(weights: Float[np.ndarray, "steps time"]) -> Figure:
    """Draw where each decoder step looks in the video."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(weights.T, origin="lower", aspect="auto", interpolation="none")
    axis.set(xlabel="decoder step", ylabel="video frame")
    figure.colorbar(image, ax=axis, label="attention")
    return figure


def speech(
    mel: Float[np.ndarray, "mels frames"], alignments: Sequence[tuple[int, Float[np.ndarray, "steps time"]]]
) -> Figure:
    """Draw a clip's mel beside its alignments, each given with its first video frame."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    image = left.imshow(mel, origin="lower", aspect="auto", interpolation="none")
    left.set(title="mel", xlabel="frame", ylabel="mel bin")
    figure.colorbar(image, ax=left, label="natural log")
    right.set_facecolor(colormaps["viridis"](0.0))
    stop = max(start + weights.shape[1] for start, weights in alignments)
    for start, weights in alignments:
        edges = (start, start + weights.shape[1])
        image = right.imshow(
            weights.T, origin="lower", aspect="auto", interpolation="none", extent=(*edges, *edges), vmin=0, vmax=1
        )
    right.set(title="alignment", xlabel="decoder step, in video frames", ylabel="video frame")
    right.set(xlim=(0, stop), ylim=(0, stop))
    figure.colorbar(image, ax=right, label="attention")
    return figure
