"""Video of any length -> mel: overlapping windows, cross-faded where they meet."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lipsound2.config import ModelConfig
from lipsound2.model.lipsound import LipSound2


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
def generate(model: LipSound2, views: Iterable[UInt8[Tensor, "channels size size"]], frames: int) -> Generation:
    """Run the model freely over a stretch of video, holding only one window of it.

    Args:
        model: In evaluation mode; `config.window` and `config.overlap` say how far it sees at once.
        views: The stretch, frame by frame.
        frames: How many frames it has.
    """
    config = model.config
    size = min(config.window, frames)
    windows, befores = [], []
    for start, video in _windows(views, window_starts(frames, size, min(config.overlap, size - 1)), size):
        predicted = model(video[None], torch.tensor([size], device=video.device))
        alignment = None if predicted.alignment is None else predicted.alignment[0].float()
        windows.append(Window(start, predicted.after[0].float(), alignment))
        befores.append(windows[-1]._replace(mel=predicted.before[0].float()))
    return Generation(cross_fade(windows, frames, config), windows, cross_fade(befores, frames, config))


def window_starts(frames: int, size: int, overlap: int) -> list[int]:
    """Spread as few windows as possible evenly over `frames`, neighbours sharing `overlap` frames or more.

    >>> window_starts(200, 100, 20)
    [0, 50, 100]
    """
    if not 0 <= overlap < size:
        raise ValueError(f"an overlap of 0..{size - 1} frames was expected, got {overlap}")
    if frames <= size:
        return [0]
    count = -(-(frames - overlap) // (size - overlap))
    return [round(i * (frames - size) / (count - 1)) for i in range(count)]


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


def _windows(
    views: Iterable[UInt8[Tensor, "channels size size"]], starts: list[int], size: int
) -> Iterator[tuple[int, UInt8[Tensor, "channels time size size"]]]:
    """Cut a stream of frames into windows, forgetting each frame once no window needs it."""
    held: list[Tensor] = []
    first = 0
    stream = iter(views)
    for start in starts:
        del held[: start - first]
        first = start
        while len(held) < size:
            held.append(next(stream))
        yield start, torch.stack(held, dim=1)
