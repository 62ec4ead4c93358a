"""Training clips -> augmented ones, a whole batch at once on the training device.

Parameters are drawn clip by clip on the CPU, from (seed, epoch, clip) alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional
from torch.utils.data._utils.collate import default_collate_fn_map

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig, AugmentConfig, VideoConfig
from lipsound2.faces import CANVAS

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the face canvas."""


@dataclass(frozen=True)
class Jitter:
    """Parameters of a clip's image augmentation, the same for all of its frames.

    Attributes:
        angle: Rotation in radians.
        scale: Factor of the window's side.
        shift: Of the window's centre, right and down, in pixels of the canvas.
        flip: Mirror left and right.
        contrast: Factor around the mean.
        brightness: Added to each pixel.
        erased: Rectangle (left, top, right, bottom) as fractions of the view, painted in one grey.
    """

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip: bool = False
    contrast: float = 1.0
    brightness: float = 0.0
    erased: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class Change(NamedTuple):
    """Parameters of one training example's augmentation.

    Attributes:
        jitter: Of the images.
        frames: Video frames to which video and audio are resampled.
        hidden: Spans of frames (first, last + 1, before resampling) that the mean frame replaces.
    """

    jitter: Jitter
    frames: int
    hidden: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Stretch:
    """A stretch of a prepared clip and its augmentation.

    Attributes:
        key: Of the clip.
        crops: The face, cut to the box that any augmentation can show.
        wave: The audio of the same time.
        change: Its augmentation.
        voice: Speaker embedding that the model is conditioned on, if it takes one.
        box: The part of the canvas that the crops show.
    """

    key: str
    crops: UInt8[Tensor, "frames channels height width"]
    wave: Float[Tensor, " samples"]
    change: Change
    voice: Float[Tensor, " voice_dim"] | None = None
    box: Box = (0, 0, CANVAS, CANVAS)


class Batch(NamedTuple):
    """Clips padded to the longest; lengths are on the CPU; `voices` are the condition of a model that takes one."""

    keys: list[str]
    video: UInt8[Tensor, "batch channels time size size"]
    video_lengths: Int[Tensor, " batch"]
    mel: Float[Tensor, "batch mels frames"]
    mel_lengths: Int[Tensor, " batch"]
    voices: Float[Tensor, "batch voice_dim"] | None = None


@dataclass
class Stack:
    """Stretches padded to the longest and stacked, before augmentation.

    Attributes:
        keys: Of the clips.
        crops: Faces.
        waves: Audio.
        frames: Video frames of each.
        samples: Samples of each.
        changes: The augmentation of each.
        box: The part of the canvas that the crops show.
        time: Video frames to which the augmented clips are padded.
        voices: Speaker embeddings, if the model is conditioned on them.
    """

    keys: list[str]
    crops: UInt8[Tensor, "batch frames channels height width"]
    waves: Float[Tensor, "batch samples"]
    frames: Int[Tensor, " batch"]
    samples: Int[Tensor, " batch"]
    changes: list[Change]
    box: Box
    time: int = field(default=0)
    voices: Float[Tensor, "batch voice_dim"] | None = None

    def pin_memory(self) -> "Stack":
        """Pin the large tensors; `torch.utils.data.DataLoader` calls this."""
        self.crops, self.waves = self.crops.pin_memory(), self.waves.pin_memory()
        return self


def draw_jitter(config: AugmentConfig, rng: np.random.Generator) -> Jitter:
    """Draw parameters of the image augmentation."""
    width, height = rng.uniform(0.1, 0.33, 2)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    erased = (left, top, left + width, top + height)
    return Jitter(
        angle=math.radians(rng.uniform(-config.rotate, config.rotate)),
        scale=1 + rng.uniform(-config.scale, config.scale),
        shift=(rng.uniform(-config.shift, config.shift), rng.uniform(-config.shift, config.shift)),
        flip=rng.random() < config.flip,
        contrast=1 + rng.uniform(-config.contrast, config.contrast),
        brightness=rng.uniform(-config.brightness, config.brightness),
        erased=erased if rng.random() < config.erase else Jitter.erased,
    )


def draw_hidden(frames: int, share: float, fps: int, rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Draw spans of up to 0.4 s, one in each second with probability `share`."""
    spans = []
    for second in range(0, frames, fps):
        if rng.random() < share:
            start = second + int(rng.integers(fps))
            spans.append((start, start + int(rng.integers(1, round(0.4 * fps) + 1))))
    return tuple(spans)


def seen_box(config: VideoConfig, augment: AugmentConfig | None) -> Box:
    """Return the part of the canvas that the model's window can show under any augmentation."""
    left, top, side = config.window
    reach = side / 2
    if augment:
        turned = math.radians(augment.rotate)
        reach = reach * (1 + augment.scale) * (math.cos(turned) + math.sin(turned)) + augment.shift
    edges = (left + side / 2 - reach, top + side / 2 - reach, left + side / 2 + reach, top + side / 2 + reach)
    low = [min(max(0, math.floor(edge) - 1), CANVAS - 2) for edge in edges[:2]]
    high = [max(min(CANVAS, math.ceil(edge) + 1), start + 2) for edge, start in zip(edges[2:], low, strict=True)]
    return low[0], low[1], high[0], high[1]


def stack(stretches: Sequence[Stretch], multiple: int = 1) -> Stack:
    """Pad stretches to the longest and stack them; augmented clips are padded to a multiple of so many video frames."""
    longest = max(stretch.change.frames for stretch in stretches)
    voices = [stretch.voice for stretch in stretches if stretch.voice is not None]
    return Stack(
        [stretch.key for stretch in stretches],
        _padded([stretch.crops for stretch in stretches]),
        _padded([stretch.wave for stretch in stretches]),
        torch.tensor([len(stretch.crops) for stretch in stretches]),
        torch.tensor([len(stretch.wave) for stretch in stretches]),
        [stretch.change for stretch in stretches],
        stretches[0].box,
        -(-longest // multiple) * multiple,
        torch.stack(voices) if voices else None,
    )


def _collated(stretches: Sequence[Stretch], *, collate_fn_map: object = None) -> Stack:
    return stack(stretches)


default_collate_fn_map[Stretch] = _collated  # so that a plain DataLoader stacks them


def vary(stacked: Stack, video: VideoConfig, audio: AudioConfig, device: torch.device) -> Batch:
    """Augment a batch of clips and compute their mels, on `device`."""
    frames = torch.tensor([change.frames for change in stacked.changes])
    mel_frames = torch.tensor([audio.mel_frames(change.frames, video.fps) for change in stacked.changes])
    pixels = _windows(stacked, video, device)
    pixels = _stretched(pixels, stacked.frames, frames, stacked.time)
    augmented = pixels.round().clamp(0, 255).to(torch.uint8).transpose(1, 2).contiguous()
    mel = log_mel(stacked.waves.to(device, non_blocking=True), audio)
    most = audio.mel_frames(stacked.time, video.fps)
    mel = _stretched(mel.mT, stacked.samples // audio.hop_length, mel_frames, most).mT.contiguous()
    voices = None if stacked.voices is None else stacked.voices.to(device, non_blocking=True)
    return Batch(stacked.keys, augmented, frames, mel, mel_frames, voices)


def _windows(stacked: Stack, video: VideoConfig, device: torch.device) -> Float[Tensor, "batch frames channels s s"]:
    """Sample the window of each frame, and augment contrast and brightness."""
    batch, time, channels = stacked.crops.shape[:3]
    jitters = [change.jitter for change in stacked.changes]
    grid = functional.affine_grid(
        torch.stack([_theta(video, jitter) for jitter in jitters]), [batch, 1, video.size, video.size], False
    )
    grid = _on_box(grid, stacked.box).to(device, non_blocking=True)
    grid = grid[:, None].expand(-1, time, -1, -1, -1).flatten(0, 1)
    crops = stacked.crops.to(device, non_blocking=True).flatten(0, 1).float()
    pixels = functional.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    pixels = pixels.unflatten(0, (batch, time))
    inside = (torch.arange(time)[None] < stacked.frames[:, None]).to(device, non_blocking=True)[:, :, None, None, None]
    if all(jitter == Jitter() for jitter in jitters) and not any(change.hidden for change in stacked.changes):
        return pixels
    counts = stacked.frames.to(device, non_blocking=True)[:, None, None, None, None] * (channels * video.size**2)
    mean = (pixels * inside).sum(dim=(1, 2, 3, 4), keepdim=True) / counts
    light = torch.tensor([[jitter.contrast, jitter.brightness] for jitter in jitters]).to(device, non_blocking=True)
    contrast, brightness = light[:, :, None, None, None, None].unbind(1)
    varied = (pixels - mean) * contrast + mean + brightness
    varied = torch.where(_erased(jitters, video.size).to(device, non_blocking=True), mean, varied)
    if any(change.hidden for change in stacked.changes):
        still = (varied * inside).sum(dim=1, keepdim=True) / counts * (channels * video.size**2)
        varied = torch.where(_hidden(stacked).to(device, non_blocking=True), still, varied)
    return varied


def _theta(config: VideoConfig, jitter: Jitter) -> Float[Tensor, "2 3"]:
    """Map the view's coordinates (-1..1) to those of the canvas (-1..1)."""
    left, top, side = config.window
    half = CANVAS / 2
    extent = side / CANVAS * jitter.scale
    x = (left + side / 2 + jitter.shift[0]) / half - 1
    y = (top + side / 2 + jitter.shift[1]) / half - 1
    cos, sin = extent * math.cos(jitter.angle), extent * math.sin(jitter.angle)
    mirror = -1 if jitter.flip else 1
    return torch.tensor([[mirror * cos, -sin, x], [mirror * sin, cos, y]])


def _on_box(grid: Float[Tensor, "batch h w 2"], box: Box) -> Float[Tensor, "batch h w 2"]:
    """Map coordinates of the canvas (-1..1) to those of a part of it."""
    start = torch.tensor(box[:2], dtype=torch.float32)
    size = torch.tensor([box[2] - box[0], box[3] - box[1]], dtype=torch.float32)
    return ((grid + 1) * (CANVAS / 2) - start) * 2 / size - 1


def _erased(jitters: list[Jitter], size: int) -> Bool[Tensor, "batch 1 1 size size"]:
    edges = torch.tensor([[round(edge * size) for edge in jitter.erased] for jitter in jitters])
    left, top, right, bottom = edges[:, :, None].unbind(1)
    place = torch.arange(size)[None]
    rows, columns = (place >= top) & (place < bottom), (place >= left) & (place < right)
    return (rows[:, :, None] & columns[:, None])[:, None, None]


def _hidden(stacked: Stack) -> Bool[Tensor, "batch frames 1 1 1"]:
    hidden = torch.zeros(stacked.crops.shape[:2], dtype=torch.bool)
    for clip, change in enumerate(stacked.changes):
        for start, stop in change.hidden:
            hidden[clip, start:stop] = True
    return hidden[:, :, None, None, None]


def _stretched(
    values: Float[Tensor, "batch _ *features"], lengths: Int[Tensor, " batch"], wanted: Int[Tensor, " batch"], size: int
) -> Float[Tensor, "batch size *features"]:
    """Resample each sequence linearly in time to the wanted length; pad with zeros to `size`."""
    if values.shape[1] == size and bool((lengths == size).all() and (wanted == size).all()):
        return values
    place = torch.arange(size)[None].double()
    source = ((place + 0.5) * (lengths / wanted)[:, None] - 0.5).clamp(min=0)
    first = source.floor().long().minimum(lengths[:, None] - 1)
    second = (first + 1).minimum(lengths[:, None] - 1)
    weight = (source - first).clamp(0, 1).float()
    shares = torch.stack([1 - weight, weight]) * (place < wanted[:, None])
    rows, first, second, shares = (
        part.to(values.device, non_blocking=True)
        for part in (torch.arange(len(values))[:, None], first, second, shares)
    )
    shares = shares.reshape(*shares.shape, *[1] * (values.ndim - 2))
    return values[rows, first] * shares[0] + values[rows, second] * shares[1]


def _padded(tensors: list[Tensor]) -> Tensor:
    longest = max(len(tensor) for tensor in tensors)
    if all(len(tensor) == longest for tensor in tensors):
        return torch.stack(tensors)
    padded = tensors[0].new_zeros(len(tensors), longest, *tensors[0].shape[1:])
    for row, tensor in zip(padded, tensors, strict=True):
        row[: len(tensor)] = tensor
    return padded
