"""An exported pack -> model, WaveGlow and recogniser that onnxruntime runs, in the places of those that torch runs."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from lipsound2.errors import CheckpointError, MissingExtraError, guard
from lipsound2.export.settings import EXPORT_NAME, read_exported
from lipsound2.export.write import EXTRA, export
from lipsound2.model import Prediction
from lipsound2.model.attention_decoder import DecoderState
from lipsound2.packs import Pack
from lipsound2.recognizer import ctc
from lipsound2.recognizer.base import Wave
from lipsound2.runtime.download import cache_folder
from lipsound2.runtime.terminal import say
from lipsound2.vocoder.prediction import Predictor, colour, predictor


def exported_folder(pack: Pack) -> Path:
    """Return the folder of graphs of a pack; a pack of torch's is exported once and kept with what is downloaded."""
    if (pack.folder / EXPORT_NAME).is_file():
        return pack.folder
    folder = cache_folder() / "onnx" / f"{pack.info.name}-{pack.model_digest[:16]}"
    if not (folder / EXPORT_NAME).is_file():
        say(f"exporting {pack.info.name} to ONNX, once")
        export(pack, folder, force=True)
    return folder


class Session:
    """A graph in onnxruntime: tensors by name -> tensors by name.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        MediaError: The file is no graph.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("the backend onnx needs the package onnxruntime", EXTRA) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        with guard(path):
            self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self._outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


class OnnxLips:
    """Run an exported lip-to-mel model, as `LipSound2` in evaluation mode does, clip by clip.

    Args:
        folder: Of an exported pack.
    """

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        exported = read_exported(folder)
        self.config = exported.model
        self.mel_mean = torch.tensor(exported.mel_mean)[:, None]
        self._encoder, self._decoder, self._postnet = (
            Session(folder / f"{name}.onnx") for name in ("encoder", "decoder", "postnet")
        )
        self._looks: list[Callable[..., None]] = []

    def __call__(
        self,
        video: UInt8[Tensor, "1 channels time height width"],
        lengths: Int[Tensor, " 1"],
        *,
        condition: Tensor | None = None,
    ) -> Prediction:
        """Predict the mel of one clip without padding; models that take a condition are not exported."""
        if condition is not None:
            raise ValueError("no condition was expected")
        encoded = self._encoder(video=video.numpy())
        for look_at in self._looks:
            look_at(self, None, torch.from_numpy(encoded["face"]))
        frames = self.config.audio.mel_frames(int(lengths[0]), self.config.video.fps)
        mel, alignment = self._decoded(encoded, frames)
        polished = self._postnet(mel=mel)
        before, after = (torch.from_numpy(polished[name]) for name in ("before", "after"))
        return Prediction(before, after, torch.tensor([frames]), alignment)

    def watch(self, block: int, look: Callable[..., None]) -> "_Watch":
        """Call `look` with the mean over time of the output of a block, which is the one that was exported."""
        self._looks.append(look)
        return _Watch(self._looks, look)

    def _decoded(self, encoded: dict[str, np.ndarray], frames: int) -> tuple[np.ndarray, Tensor | None]:
        """Return normalised mel and the attention of each step."""
        memory = encoded["memory"]
        if "keys" not in encoded:
            return self._decoder(memory=memory)["mel"][..., :frames], None
        state = self._initial(memory)
        previous = np.zeros((1, self.config.audio.n_mels), np.float32)
        mels, alignment = [], []
        for _ in range(-(-frames // self.config.decoder.frames_per_step)):  # type: ignore[attr-defined]
            found = self._decoder(previous=previous, memory=memory, keys=encoded["keys"], **state)
            state = {name: found[f"next_{name}"] for name in state}
            previous = np.ascontiguousarray(found["mel"][:, :, -1])
            mels.append(found["mel"])
            alignment.append(torch.from_numpy(state["weights"]))
        return np.concatenate(mels, axis=2)[..., :frames], torch.stack(alignment, dim=1)

    def _initial(self, memory: np.ndarray) -> dict[str, np.ndarray]:
        size = self.config.decoder.lstm_dim  # type: ignore[attr-defined]
        sizes = (size, size, memory.shape[2], memory.shape[1], memory.shape[1])
        state = {name: np.zeros((1, n), np.float32) for name, n in zip(DecoderState._fields, sizes, strict=True)}
        state["weights"][:, 0] = state["cumulative"][:, 0] = 1
        return state


class _Watch:
    """Stops a watching, as the handles of torch's hooks do."""

    def __init__(self, looks: list[Callable[..., None]], look: Callable[..., None]) -> None:
        self._looks, self._look = looks, look

    def remove(self) -> None:
        with suppress(ValueError):
            self._looks.remove(self._look)


class OnnxWaveGlow:
    """Run an exported WaveGlow, as `WaveGlow` in evaluation mode does.

    Args:
        folder: Of an exported pack.
    """

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        config = read_exported(folder).waveglow
        if config is None:
            raise CheckpointError(f"{folder} holds no WaveGlow", "leave out --vocoder, or choose griffin-lim")
        self.config = config
        self._session = Session(folder / "waveglow.onnx")

    def unflow(
        self,
        mel: Float[Tensor, "batch mels frames"],
        z: Float[Tensor, "batch group steps"],
        integers: bool = False,
    ) -> Float[Tensor, "batch samples"]:
        """Map noise to audio, or to the residual of its linear prediction; the graph decides what it computes in."""
        return torch.from_numpy(self._session(mel=mel.contiguous().numpy(), noise=z.contiguous().numpy())["wave"])

    def predictor(self, mel: Float[Tensor, "batch mels frames"]) -> Predictor:
        """Return the linear predictor for a mel."""
        return predictor(mel, self.config.audio, self.config.prediction)

    def infer(
        self, mel: Float[Tensor, "batch mels frames"], z: Float[Tensor, "batch group steps"]
    ) -> Float[Tensor, "batch samples"]:
        """Map noise to audio."""
        wave = self.unflow(mel, z)
        return colour(wave, self.predictor(mel)) if self.config.prediction else wave


class OnnxJasper:
    """Run an exported recogniser, as `Jasper` in evaluation mode does.

    Args:
        folder: Of an exported pack.
    """

    def __init__(self, folder: Path) -> None:
        config = read_exported(folder).recognizer
        if config is None:
            raise CheckpointError(f"{folder} holds no recogniser", "give --recognizer")
        self.config = config
        self._session = Session(folder / "recognizer.onnx")

    def listen(self, wave: Wave) -> ctc.Frames:
        """Return the log-posteriors of one wave."""
        return self._session(wave=wave[None])["posteriors"][0]
