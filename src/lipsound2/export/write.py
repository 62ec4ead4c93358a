"""A pack -> a folder of ONNX graphs with settings, card and checksums, which `find_pack` verifies as any pack."""

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from lipsound2.config import read_config, to_json
from lipsound2.errors import CheckpointError, MissingExtraError
from lipsound2.export.graphs import Graph, magnitude_graph, model_graphs, recognizer_graph, waveglow_graph
from lipsound2.export.quantize import quantize
from lipsound2.export.settings import EXPORT_NAME, Exported, to_data
from lipsound2.export.weights import share
from lipsound2.mtcnn import detector_graphs
from lipsound2.packs.familiarity import SETTINGS_NAME, STATISTICS_NAME, Calibration
from lipsound2.packs.pack import CARD_NAME, INFO_NAME, Pack, write_sums
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, load_jasper
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.vocoder.synthesis import load_waveglow

OPSET = 17
FACES = "faces"
"""Folder of the face detector's graphs."""
EXTRA = 'pip install "lipsound2[onnx]"'


def export(pack: Pack, target: Path, int8: bool = False, force: bool = False) -> None:
    """Write the graphs of a pack or a run.

    Args:
        pack: What `find_pack` found.
        target: Folder to write.
        int8: Whether to store weights in 8 bits.
        force: Whether to replace what is there.

    Raises:
        CheckpointError: The folder exists.
        ConfigError: The pack holds a part that cannot be exported.
        MissingExtraError: The package onnx is not installed.
    """
    _need_onnx()
    if target.exists() and not force:
        raise CheckpointError(f"{target} exists", "replace it with --force")
    parts, graphs = gather(pack, int8)
    with atomic_path(target) as folder:
        folder.mkdir()
        for name, graph in graphs.items():
            trace(graph, folder / f"{name}.onnx")
            share(folder / f"{name}.onnx")
            if int8:
                quantize(folder / f"{name}.onnx", name)
        write_text(folder / EXPORT_NAME, json.dumps(to_data(parts, graphs)) + "\n")
        write_text(folder / INFO_NAME, to_json(pack.info))
        for path in _kept(pack):
            shutil.copyfile(path, folder / path.name)
        shutil.copytree(detector_graphs(), folder / FACES, ignore=_but_graphs)
        write_sums(folder)


def gather(pack: Pack, int8: bool = False) -> tuple[Exported, Mapping[str, Graph]]:
    """Return the configurations and the graphs of all parts of a pack."""
    model = pack.load_model()
    waveglow = load_waveglow(pack.waveglow) if pack.waveglow else None
    recognizer = load_jasper(pack.recognizer) if pack.recognizer else None
    watched = pack.folder / SETTINGS_NAME
    block = read_config(watched, Calibration).layer.block if watched.is_file() else None
    graphs = model_graphs(model, block) | {"magnitude": magnitude_graph(model.config.audio)}
    if waveglow:
        graphs["waveglow"] = waveglow_graph(waveglow)
    if recognizer:
        graphs["recognizer"] = recognizer_graph(recognizer)
    parts = Exported(
        model.config,
        waveglow.config if waveglow else None,
        recognizer.config if recognizer else None,
        block,
        "int8" if int8 else None,
        tuple(model.mel_mean[:, 0].tolist()),
        tuple(model.mel_std[:, 0].tolist()),
    )
    return parts, graphs


def trace(graph: Graph, path: Path) -> None:
    """Write a module as an ONNX graph.

    The exporter of TorchScript is used: that of `torch.export` fixes the length of LSTMs that it was shown.
    """
    ports = (*graph.inputs, *graph.outputs)
    axes = {port.name: {axis: name for axis, name in enumerate(port.shape) if isinstance(name, str)} for port in ports}
    module, examples = graph.module.eval(), tuple(port.example() for port in graph.inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module(*examples)  # what is derived from weights is computed now, and is a constant of the graph
        torch.onnx.export(
            module,
            examples,
            str(path),
            input_names=[port.name for port in graph.inputs],
            output_names=[port.name for port in graph.outputs],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _but_graphs(_: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".onnx")]


def _kept(pack: Pack) -> list[Path]:
    """List the files that go along unchanged."""
    paths = [pack.folder / name for name in (CARD_NAME, SETTINGS_NAME, STATISTICS_NAME)]
    paths += [pack.recognizer / LANGUAGE_NAME] if pack.recognizer else []
    return [path for path in paths if path.is_file()]


def _need_onnx() -> None:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("export needs the package onnx", EXTRA) from error
    logging.getLogger(onnx.__name__).setLevel(logging.ERROR)
