"""A pack and prepared clips -> the mels that the pack makes of them when it is shown the true past.

They go with the true sound frame by frame, as those of a free run need not, and have the faults of
made mels: what a vocoder should learn to live with.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import log_mel
from lipsound2.data.shards import Entry, read_crops, read_wave
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import view
from lipsound2.runtime.windows import striding


@torch.inference_mode()
def forced_mels(
    model: LipSound2,
    folder: Path,
    entries: Sequence[Entry],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Float[Tensor, "mels _"]]:
    """Run a model over clips window by window, feeding it the true mel.

    Args:
        model: In evaluation mode.
        folder: What `lipsound2 prepare` wrote.
        entries: Clips of it.
        progress: Told how many of how many clips are done.

    Returns:
        Log-mels on the CPU, by the clips' keys.
    """
    found = {}
    for done, entry in enumerate(entries):
        progress(done, len(entries))
        found[entry.key] = _forced(model, folder, entry)
    progress(len(entries), len(entries))
    return found


def _forced(model: LipSound2, folder: Path, entry: Entry) -> Float[Tensor, "mels frames"]:
    config = model.config
    device = next(model.parameters()).device
    video = view(read_crops(folder, entry, config.video.channels), config.video)
    wave = torch.from_numpy(read_wave(folder, entry))
    true = log_mel(wave[None], config.audio)
    pieces = []
    for start in striding(video.shape[1], config.window):
        piece = video[:, start : start + config.window]
        first = config.audio.mel_frames(start, config.video.fps)
        frames = config.audio.mel_frames(start + piece.shape[1], config.video.fps) - first
        target = torch.nn.functional.pad(true[..., first : first + frames], (0, max(0, first + frames - true.shape[2])))
        lengths = torch.tensor([piece.shape[1]], device=device)
        pieces.append(model(piece[None].to(device), lengths, target.to(device)).after[0].float().cpu())
    return torch.cat(pieces, dim=1)
