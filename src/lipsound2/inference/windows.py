"""Video of any length -> mel: overlapping windows, cross-faded where they meet."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lipsound2.config import ModelConfig
from lipsound2.model.lipsound import Lips
from lipsound2.runtime.windows import cut, evenly


class Window(NamedTuple):
    """What the model says of one window of video.

    Attributes:
        start: First video frame.
        mel: Log-mel after the postnet.
        alignment: Attention of each decoder step over the window's frames, if the decoder has attention.
    """

    start: int
    mel: Float[Tensor, "mels frames"]
    alignment: Float[Tensor, "steps time"] | None


class Generation(NamedTuple):
    """What the model says of a whole stretch of video.

    Attributes:
        mel: Log-mel after the postnet, exactly as long as the video.
        windows: What it was put together from.
        before: The same mel before the postnet.
    """

    mel: Float[Tensor, "mels frames"]
    windows: list[Window]
    before: Float[Tensor, "mels frames"]


@torch.inference_mode()
def generate(
    model: Lips,
    views: Iterable[UInt8[Tensor, "channels size size"]],
    frames: int,
    condition: Callable[[UInt8[Tensor, "channels frames size size"]], Float[Tensor, " condition_dim"]] | None = None,
) -> Generation:
    """Run the model freely over a stretch of video, holding only one window of it.

    Args:
        model: In evaluation mode; `config.window` and `config.overlap` say how far it sees at once.
        views: The stretch, frame by frame.
        frames: How many frames it has.
        condition: Returns the speaker embedding, if the model takes one, for the first window of the video.
    """
    config = model.config
    size = min(config.window, frames)
    voice: Tensor | None = None
    windows, befores = [], []
    for start, frames_seen in cut(views, evenly(frames, size, min(config.overlap, size - 1)), size):
        video = torch.stack(frames_seen, dim=1)
        if condition and voice is None:
            voice = condition(video)[None].to(video.device)
        predicted = model(video[None], torch.tensor([size], device=video.device), condition=voice)
        alignment = None if predicted.alignment is None else predicted.alignment[0].float()
        windows.append(Window(start, predicted.after[0].float(), alignment))
        befores.append(windows[-1]._replace(mel=predicted.before[0].float()))
    return Generation(cross_fade(windows, frames, config), windows, cross_fade(befores, frames, config))


def cross_fade(windows: list[Window], frames: int, config: ModelConfig) -> Float[Tensor, "mels frames"]:
    """Join the windows' mels; each fades in and out over `config.overlap`, but not at the ends of the video."""
    total = config.audio.mel_frames(frames, config.video.fps)
    fade = max(1, config.audio.mel_frames(config.overlap, config.video.fps))
    mels = windows[0].mel.shape[0]
    joined, weight = windows[0].mel.new_zeros(mels, total), windows[0].mel.new_zeros(total)
    for window in windows:
        first = config.audio.mel_frames(window.start, config.video.fps)
        length = min(window.mel.shape[1], total - first)
        place = torch.arange(length, device=joined.device)
        rise = place + 1 if first > 0 else torch.full_like(place, fade)
        fall = length - place if first + length < total else torch.full_like(place, fade)
        share = torch.minimum(rise, fall).clamp(max=fade) / fade
        joined[:, first : first + length] += share * window.mel[:, :length]
        weight[first : first + length] += share
    return joined / weight
