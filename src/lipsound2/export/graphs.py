"""Models -> modules of tensors alone, each of which becomes one ONNX graph; batches of one, time of any length.

encoder      video -> memory, and what the attention and the measure of familiarity need of it
decoder      a step: the frame before and the state -> frames and the state; without feedback: memory -> mel
postnet      normalised mel -> log-mel before and after the postnet
magnitude    log-mel -> the magnitudes that Griffin-Lim finds phases for
waveglow     log-mel and noise -> audio, or the residual of its linear prediction and the predictor
recognizer   audio -> log-posteriors, features included
"""

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsound2.audio import fine_magnitude, mel_basis
from lipsound2.config import AudioConfig
from lipsound2.errors import ConfigError
from lipsound2.model import LipSound2
from lipsound2.model.attention import Located, LocationAwareAttention
from lipsound2.model.attention_decoder import AttentionDecoder, DecoderState
from lipsound2.model.frame_decoder import FrameDecoder
from lipsound2.model.memory import Memory
from lipsound2.recognizer.config import FeatureConfig
from lipsound2.recognizer.features import normalize
from lipsound2.recognizer.jasper import Jasper
from lipsound2.vocoder.waveglow import WaveGlow

TRACED = 12
"""Frames of the inputs that a module is traced with."""


class Port(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: As in the graph.
        shape: A name for each axis of any length, a number for each other one.
        dtype: Name of its type.
        traced: Length of the first kind of axes when the module is traced.
    """

    name: str
    shape: tuple[str | int, ...]
    dtype: str = "float32"
    traced: int = TRACED

    def example(self) -> Tensor:
        """Return a tensor to trace with."""
        sizes = [self.traced if isinstance(axis, str) else axis for axis in self.shape]
        return torch.zeros(sizes, dtype=getattr(torch, self.dtype))


@dataclass(frozen=True)
class Graph:
    """A module and what goes in and out; dimensions that depend on others have names of their own."""

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def model_graphs(model: LipSound2, face_block: int | None) -> dict[str, Graph]:
    """Return the graphs of a lip-to-mel model by name.

    Args:
        model: In evaluation mode.
        face_block: Block of the encoder from which familiarity is measured, if it is.

    Raises:
        ConfigError: It holds a part that cannot be exported.
    """
    config = model.config
    if config.condition_dim:
        raise ConfigError("a model that takes a condition cannot be exported", "train one with condition_dim 0")
    mels, size = config.audio.n_mels, config.video.size
    video = Port("video", (1, config.video.channels, "frames", size, size), "uint8")
    mel = Port("mel", (1, mels, "mel_frames"))
    memory = Port("memory", (1, "frames", model.encoder.dim))
    outputs = [memory, *([Port("keys", (1, "frames", "dim"))] if _attention(model) else [])]
    outputs += [] if face_block is None else [Port("face", (1, "channels", 1, "rows", "columns"))]
    return {
        "encoder": Graph(_Encoder(model, face_block), (video,), tuple(outputs)),
        "decoder": _decoder(model, memory, mel),
        "postnet": Graph(_Postnet(model), (mel,), (mel._replace(name="before"), mel._replace(name="after"))),
    }


def magnitude_graph(audio: AudioConfig) -> Graph:
    """Return the graph from log-mel to magnitudes."""
    mel = Port("mel", (1, audio.n_mels, "mel_frames"))
    return Graph(_Magnitude(audio), (mel,), (Port("magnitude", (1, "bins", "short_frames")),))


def waveglow_graph(model: WaveGlow) -> Graph:
    """Return the graph of a WaveGlow; the noise has the standard deviation that it is given with."""
    config = model.config
    mel = Port("mel", (1, config.audio.n_mels, "mel_frames"))
    noise = Port("noise", (1, config.group, "steps"), traced=TRACED * config.steps_per_frame)
    outputs = [Port("wave", (1, "samples"))]
    if config.prediction:
        outputs += [Port("weights", (1, "mel_frames", config.prediction)), Port("gain", (1, "mel_frames"))]
    return Graph(_WaveGlow(model), (mel, noise), tuple(outputs))


def recognizer_graph(model: Jasper) -> Graph:
    """Return the graph of a recogniser."""
    symbols = len(model.config.alphabet) + 1
    return Graph(
        _Recognizer(model),
        (Port("wave", (1, "samples"), traced=TRACED * model.config.samples_per_frame),),
        (Port("posteriors", (1, "posterior_frames", symbols)),),
    )


def state_ports(model: LipSound2) -> tuple[Port, ...]:
    """Return the decoder's state in its graph; at first all 0, but for the first of both weights, which is 1."""
    decoder = model.decoder
    if not isinstance(decoder, AttentionDecoder):
        return ()
    size, dim = decoder.lstm.hidden_size, model.encoder.dim
    sizes: tuple[str | int, ...] = (size, size, dim, "frames", "frames")
    return tuple(Port(name, (1, width)) for name, width in zip(DecoderState._fields, sizes, strict=True))


def _attention(model: LipSound2) -> LocationAwareAttention | None:
    decoder = model.decoder
    if not isinstance(decoder, AttentionDecoder):
        return None
    if not isinstance(decoder.attention, LocationAwareAttention):
        raise ConfigError(f"an attention of the kind {type(decoder.attention).__name__} cannot be exported")
    return decoder.attention


def _decoder(model: LipSound2, memory: Port, mel: Port) -> Graph:
    decoder = model.decoder
    if isinstance(decoder, FrameDecoder):
        return Graph(_FrameDecoder(decoder, model), (memory,), (mel,))
    attention = _attention(model)
    if attention is None or not isinstance(decoder, AttentionDecoder):
        raise ConfigError(f"a decoder of the kind {model.config.decoder.kind!r} cannot be exported")
    state, mels = state_ports(model), model.config.audio.n_mels
    keys = Port("keys", (1, "frames", attention.memory.out_features))
    inputs = (Port("previous", (1, mels)), memory, keys, *state)
    following = (port._replace(name=f"next_{port.name}") for port in state)
    return Graph(_AttentionStep(decoder), inputs, (Port("mel", (1, mels, decoder.frames_per_step)), *following))


def _lengths(size: int) -> Tensor:
    # A tensor when traced, so that the length does not become a constant of the graph.
    return torch.full((1,), size, dtype=torch.int64)


class _Encoder(nn.Module):
    def __init__(self, model: LipSound2, face_block: int | None) -> None:
        super().__init__()
        self.model = model
        self.face_block = face_block
        self.attention = _attention(model)

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        seen: list[Tensor] = []
        if self.face_block is not None:
            handle = self.model.watch(self.face_block, lambda _module, _inputs, output: seen.append(output))
        memory = self.model.encode(video, _lengths(video.shape[2])).values
        if self.face_block is not None:
            handle.remove()
        keys = [self.attention.memory(memory) + self.attention.bias] if self.attention else []
        return memory, *keys, *(features.mean(2, keepdim=True) for features in seen)


class _AttentionStep(nn.Module):
    kernel: Tensor

    def __init__(self, decoder: AttentionDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        memory = torch.zeros(1, 1, decoder.lstm.input_size - _bottleneck(decoder))
        with torch.no_grad():
            sought = decoder.attention.prepare(memory, torch.ones(1, 1, dtype=torch.bool))
        assert isinstance(sought, Located)
        self.register_buffer("kernel", sought.kernel)

    def forward(self, previous: Tensor, memory: Tensor, keys: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        sought = Located(memory, keys, torch.zeros_like(memory[..., 0]), self.kernel)
        frames, following = self.decoder.step(self.decoder.prenet(previous), sought, DecoderState(*state))
        return frames, *following


def _bottleneck(decoder: AttentionDecoder) -> int:
    return next(
        (layer.out_features for layer in decoder.prenet.modules() if isinstance(layer, nn.Linear)), decoder.mels
    )


class _FrameDecoder(nn.Module):
    def __init__(self, decoder: FrameDecoder, model: LipSound2) -> None:
        super().__init__()
        self.decoder = decoder
        self.rate = model.config.whole_rate()

    def forward(self, memory: Tensor) -> Tensor:
        time = memory.shape[1]
        return self.decoder(Memory(memory, _lengths(time)), time * self.rate).mel


class _Postnet(nn.Module):
    def __init__(self, model: LipSound2) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        after = self.model.polish(mel, _lengths(mel.shape[2]))
        return self.model.denormalize(mel), self.model.denormalize(after)


class _Magnitude(nn.Module):
    def __init__(self, audio: AudioConfig) -> None:
        super().__init__()
        self.audio = audio

    def forward(self, mel: Tensor) -> Tensor:
        return fine_magnitude(mel, self.audio)


class _WaveGlow(nn.Module):
    def __init__(self, model: WaveGlow) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        wave = self.model.unflow(mel, noise)
        return (wave, *self.model.predictor(mel)) if self.model.config.prediction else (wave,)


class _Recognizer(nn.Module):
    """The features of `recognizer.features`, whose Fourier transform is a convolution here, and the network."""

    fourier: Tensor
    filters: Tensor

    def __init__(self, model: Jasper) -> None:
        super().__init__()
        self.model = model
        config = model.config.features
        self.register_buffer("fourier", _fourier(config))
        self.register_buffer("filters", mel_basis(config.filters()))

    def forward(self, wave: Tensor) -> Tensor:
        config = self.model.config.features
        frames = wave.shape[1] // config.hop_length
        emphasized = torch.cat([wave[:, :1], wave[:, 1:] - config.preemphasis * wave[:, :-1]], dim=1)
        padding = config.n_fft // 2 - (config.n_fft - config.win_length) // 2
        parts = functional.conv1d(emphasized[:, None], self.fourier, stride=config.hop_length, padding=padding)
        real, imaginary = parts[..., :frames].square().chunk(2, dim=1)
        values = (self.filters @ (real + imaginary) + config.guard).log()
        return self.model(*normalize(values, _lengths(wave.shape[1]) // config.hop_length)).values


def _fourier(config: FeatureConfig) -> Tensor:
    """Return windowed cosines and sines of all bins, as the kernel of a convolution."""
    window = torch.hann_window(config.win_length, periodic=False, dtype=torch.float64)
    time = torch.arange(config.win_length, dtype=torch.float64)
    angle = 2 * pi / config.n_fft * torch.outer(torch.arange(config.n_fft // 2 + 1, dtype=torch.float64), time)
    return (torch.cat([angle.cos(), angle.sin()]) * window)[:, None].float()
