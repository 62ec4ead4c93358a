"""Prepared clips and a model -> ground-truth-aligned mels on disk for training a vocoder, and those mels loaded again.

With teacher forcing, generated mels match the reference audio frame by frame, which those of a free-running decoder
need not, and have the errors of generated mels. They are stored as float16: its error is at most 0.004 in the range of
log-mels (0.03 dB). Folder and resumption are those of `lipsound2.training.generated`.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import log_mel, resample
from lipsound2.config import CONFIG_NAME, AudioConfig, ModelConfig, read_config
from lipsound2.corpora.clip import spread
from lipsound2.data.dataset import choose_entries
from lipsound2.data.shards import INDEX_NAME, Entry, read_crops, read_index, read_member, read_wave, reading
from lipsound2.errors import ConfigError, DataError
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import view
from lipsound2.packs import find_pack
from lipsound2.runtime.devices import find_device
from lipsound2.runtime.plans import read_plan
from lipsound2.runtime.resumable import Progress
from lipsound2.runtime.windows import striding
from lipsound2.training.generated import PLAN_NAME, SPLITS, Maker, describe, generate
from lipsound2.voice.encoder import RATE, embed


def generate_mels(
    prepared: Path,
    pack: Path | str,
    output: Path,
    audio: AudioConfig,
    speakers: Sequence[str] = (),
    clips: int = 0,
    device: str | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Generate mels of prepared clips, window by window with teacher forcing, or resume an interrupted call.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        pack: A pack by name or folder, or a run's folder.
        output: Folder for the mels.
        audio: Mel settings that are required.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips, spread evenly; 0 takes all.
        device: A torch device; by default the first GPU, else the CPU.
        progress: Called with the number of clips done and the total.

    Raises:
        ConfigError: The model's mels have other settings.
        DataError: `output` was begun with other clips or another pack.
    """
    found = find_pack(pack)
    own = read_config(found.model_folder / CONFIG_NAME, ModelConfig).audio
    if own != audio:
        message = f"the model makes mels of {own}, the vocoder wants {audio}"
        raise ConfigError(message, "choose a vocoder for this model's mels")
    entries = [
        replace(entry, meta={**entry.meta, "split": split})
        for split in SPLITS
        for entry in spread(choose_entries(prepared, split, speakers), clips if split == "train" else 0)
    ]

    def load_maker() -> Maker:
        model = found.load_model(find_device(device))
        return lambda entry: encode_mel(teacher_forced_mel(model, prepared, entry))

    plan = describe("mel", entries, found) | {"audio": asdict(audio)}
    generate(output, entries, plan, load_maker, progress)


class GeneratedMels(Mapping[str, Float[Tensor, "mels _"]]):
    """Generated mels by the keys of their clips, read lazily from shards.

    Args:
        folder: What `generate_mels` wrote.
        audio: Mel settings that are required.

    Raises:
        ConfigError: The mels have other settings.
        DataError: The folder holds no mels, or is not finished.
    """

    def __init__(self, folder: Path, audio: AudioConfig) -> None:
        self.folder = folder
        self.audio = audio
        plan = read_plan(folder / PLAN_NAME)
        if plan.get("kind") != "mel":
            raise DataError(f"{folder} holds no generated mels", "make them with: lipsound2 vocoder finetune --mels-of")
        if plan.get("audio") != asdict(audio):
            raise ConfigError(f"{folder} holds mels of other settings than the vocoder wants, {audio}")
        self._entries = {entry.key: entry for entry in read_index(folder)}

    def __getitem__(self, key: str) -> Float[Tensor, "mels frames"]:
        entry = self._entries[key]
        with reading(self.folder, entry):
            return decode_mel(read_member(self.folder, entry, "npy"), self.audio.n_mels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def digest(self) -> str:
        """Return a digest of the clips and the model."""
        files = (self.folder / PLAN_NAME, self.folder / INDEX_NAME)
        return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def encode_mel(mel: Float[Tensor, "mels frames"]) -> bytes:
    """Write a log-mel as a NumPy array of float16."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, mel.cpu().numpy().astype("<f2"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_mel(data: bytes, mels: int) -> Float[Tensor, "mels frames"]:
    """Read what `encode_mel` wrote.

    Raises:
        DataError: The data is no mel of so many bins.
    """
    buffer = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(buffer)
        shape, by_column, kind = np.lib.format.read_array_header_1_0(buffer)
    except (ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"its mel is damaged: {error}") from error
    body = data[buffer.tell() :]
    if (version, by_column, kind) != ((1, 0), False, np.dtype("<f2")) or shape[:-1] != (mels,):
        raise DataError(f"a mel of {mels} bins in float16 was expected, got {kind} {shape}")
    if len(body) != 2 * mels * shape[1]:
        raise DataError("its mel is truncated")
    return torch.from_numpy(np.frombuffer(body, kind).reshape(shape).astype(np.float32))


@torch.inference_mode()
def teacher_forced_mel(model: LipSound2, prepared: Path, entry: Entry) -> Float[Tensor, "mels frames"]:
    """Generate the mel of a clip, window by window with teacher forcing.

    Args:
        model: In evaluation mode.
        prepared: What `lipsound2 prepare` wrote.
        entry: A clip of that folder.
    """
    config = model.config
    device = next(model.parameters()).device
    video = view(read_crops(prepared, entry, config.video.channels), config.video)
    wave = torch.from_numpy(read_wave(prepared, entry))
    reference = log_mel(wave[None], config.audio)
    own = embed(resample(wave.numpy(), config.audio.sample_rate, RATE)) if config.condition_dim else None
    voice = None if own is None else torch.from_numpy(own)[None].to(device)
    pieces = []
    for start in striding(video.shape[1], config.window):
        piece = video[:, start : start + config.window]
        first = config.audio.mel_frames(start, config.video.fps)
        frames = config.audio.mel_frames(start + piece.shape[1], config.video.fps) - first
        missing = max(0, first + frames - reference.shape[2])
        target = torch.nn.functional.pad(reference[..., first : first + frames], (0, missing))
        lengths = torch.tensor([piece.shape[1]], device=device)
        predicted = model(piece[None].to(device), lengths, target.to(device), condition=voice)
        pieces.append(predicted.after[0].float().cpu())
    return torch.cat(pieces, dim=1)
