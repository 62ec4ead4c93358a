"""A model and its training clips -> the lag of each clip's audio.

Video and audio of recordings are misaligned by up to some hundredths of a second, differently from clip to clip. A
model cannot know the lag, so its predictions are blurred in time. But once it has learned the mean, its prediction for
a training clip shows where the audio of this clip belongs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lipsound2.data.augment import Batch
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.model import Prediction
from lipsound2.model.masks import length_mask
from lipsound2.training.task import share_out


@torch.no_grad()
def find_lags(model: nn.Module, data: ClipDataset, most: int, batch_size: int = 16) -> dict[str, int]:
    """Measure by how many mel frames the audio of each clip is later than a model predicts.

    The mean of each speaker is subtracted, so that nobody's speech drifts as a whole. Of clips cut to stretches, the
    first is measured. All processes of a run share the work and return the same.

    Args:
        model: A LipSound2 in evaluation mode.
        data: Its training clips, used without augmentation.
        most: Largest lag in mel frames.
        batch_size: Batch size.

    Returns:
        Lags in mel frames by the clips' keys.
    """
    plain = data.plain()
    first = {clip: place for place, (clip, part) in enumerate(plain.places) if part == 0}
    places = [Place(0, first[clip]) for clip in range(len(plain.entries))]
    device = next(model.parameters()).device

    def piece(number: int) -> dict[int, tuple[str, int]]:
        start = number * batch_size
        batch = plain.load(places[start : start + batch_size], device)
        predicted: Prediction = model(batch.video, batch.video_lengths, condition=batch.voices)
        late = lateness(predicted, batch, most).tolist()
        return {start + i: pair for i, pair in enumerate(zip(batch.keys, late, strict=True))}

    lags = dict(share_out(-(-len(places) // batch_size), piece))
    of_speaker: dict[object, list[int]] = {}
    for entry in plain.entries:
        of_speaker.setdefault(entry.meta["speaker"], []).append(lags[entry.key])
    means = {speaker: round(sum(own) / len(own)) for speaker, own in of_speaker.items()}
    return {entry.key: lags[entry.key] - means[entry.meta["speaker"]] for entry in plain.entries}


def lateness(predicted: Prediction, batch: Batch, most: int) -> Int[Tensor, " batch"]:
    """Return the shift at which each reference mel best matches the prediction, in mel frames; positive if late."""
    device = batch.mel.device
    frames = predicted.after.shape[-1]
    inside = length_mask(batch.mel_lengths.to(device), frames).clone()
    inside[:, :most] = False
    for i, length in enumerate(batch.mel_lengths.tolist()):
        inside[i, max(0, length - most) :] = False
    errors = []
    for lag in range(-most, most + 1):
        shifted = torch.roll(batch.mel[..., :frames], -lag, 2)
        squared: Float[Tensor, "batch frames"] = (predicted.after - shifted).square().mean(dim=1)
        errors.append((squared * inside).sum(dim=1))
    return torch.stack(errors).argmin(dim=0) - most
