"""A mutated input -> what a user does with it; whatever but a `LipSoundError` comes of that is a bug."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from fuzz.mutate import STRUCTURED, mutate
from fuzz.seeds import Fixed
from test_import_waveglow import AUDIO
from test_model import make, tiny

import lipsound2
from lipsound2.corpora import read_folder
from lipsound2.corpora.clip import Clip
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.data.recording import make_samples
from lipsound2.data.sample import SampleConfig
from lipsound2.errors import guard
from lipsound2.importers.nemo import import_nemo
from lipsound2.importers.waveglow import read_waveglow
from lipsound2.inference.pipeline import Pipeline
from lipsound2.inference.recognizers import choose
from lipsound2.packs import find_pack
from lipsound2.packs.pack import write_sums
from lipsound2.settings import read_settings
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
from lipsound2.training.run import make_fabric, run
from lipsound2.vocoder import GriffinLim

SUMS = "SHA256SUMS"
LISTS = (b"#EXTM3U", b"ffconcat")
"""How files begin that name other files."""


@cache
def pipeline() -> Pipeline:
    """Load everything once."""
    config = tiny()
    return Pipeline(make(config), GriffinLim(config.audio, iterations=1), Fixed())


def speak(path: Path, output: Path, seeds: Path) -> None:
    """Speak a video, and write sound and video."""
    with guard(path):
        speech = pipeline().speak(path)
        speech.save(output, "out", ("wav", "mp4"))
    assert not path.read_bytes().lstrip().startswith(LISTS), "another file than the input was spoken"


def prepare(path: Path, output: Path, seeds: Path) -> None:
    """Make a sample of a video."""
    with guard(path):
        list(make_samples(Clip("clip", path, "s1", "train", "bin blue"), Fixed(), SampleConfig()))


def load_pack(path: Path, output: Path, seeds: Path) -> None:
    """Load all parts of a pack, and use each."""
    found = lipsound2.load(path, device="cpu", detector=Fixed())
    found.speak_crops(torch.zeros((5, found.model.config.video.channels, 160, 160), dtype=torch.uint8))
    wave = 0.3 * np.sin(np.arange(16_000) * 0.2).astype(np.float32)
    choose("jasper:beam", find_pack(path).recognizer).transcribe(wave)


def train(path: Path, output: Path, seeds: Path) -> None:
    """Read every clip of a prepared folder."""
    config = tiny()
    for split in ("train", "val"):
        clips = ClipDataset(path, split, config.audio, config.video)
        clips.load([Place(0, i) for i in range(len(clips))])


def resume(path: Path, output: Path, seeds: Path) -> None:
    """Go on with a training run."""
    recipe = read_settings(seeds / "recipe" / "recipe.json", Lip2MelRecipe())
    longer = replace(recipe, train=replace(recipe.train, epochs=2))
    run(longer, seeds / "prepared" / "tiny", path, None, make_fabric("cpu", 1, "32-true"))


def settings(path: Path, output: Path, seeds: Path) -> None:
    """Read settings."""
    assert isinstance(read_settings(path, Lip2MelRecipe()), Lip2MelRecipe)


def corpus(path: Path, output: Path, seeds: Path) -> None:
    """List a corpus with its transcripts and splits."""
    list(read_folder(path))


def nemo(path: Path, output: Path, seeds: Path) -> None:
    """Import a recogniser of NeMo."""
    import_nemo(path, output / "imported")


def waveglow(path: Path, output: Path, seeds: Path) -> None:
    """Read a WaveGlow of another program."""
    read_waveglow(path, AUDIO)


@dataclass(frozen=True)
class Target:
    """What is done with which inputs, and how often among the cases of its group."""

    run: Callable[[Path, Path, Path], None]
    group: str
    seeds: str
    share: float


TARGETS = {
    "speak": Target(speak, "media", "media", 0.8),
    "prepare": Target(prepare, "media", "media", 0.2),
    "pack": Target(load_pack, "data", "pack", 0.35),
    "train": Target(train, "data", "prepared", 0.2),
    "resume": Target(resume, "data", "run", 0.1),
    "settings": Target(settings, "data", "recipe", 0.05),
    "corpus": Target(corpus, "data", "corpus", 0.05),
    "nemo": Target(nemo, "data", "nemo", 0.125),
    "waveglow": Target(waveglow, "data", "waveglow", 0.125),
}


@dataclass(frozen=True)
class Case:
    """A mutated input, and which target it is for."""

    target: str
    path: Path
    changed: str


def make_case(seeds: Path, folder: Path, group: str, seed: int, index: int) -> Case:
    """Write the input of case `index` of `seed` into a new folder."""
    rng = random.Random(f"{group}-{seed}-{index}")
    names = [name for name, target in TARGETS.items() if target.group == group]
    name = rng.choices(names, [TARGETS[name].share for name in names])[0]
    source = rng.choice(sorted((seeds / TARGETS[name].seeds).iterdir()))
    path = folder / source.name
    if source.is_file():
        others = [other.read_bytes() for other in sorted(source.parent.iterdir()) if other != source]
        path.write_bytes(mutate(source.name, source.read_bytes(), rng, others))
        return Case(name, path, source.name)
    shutil.copytree(source, path)
    files = sorted(file for file in path.rglob("*") if file.name.rpartition(".")[2] in STRUCTURED)
    kind = rng.choice(sorted({file.suffix for file in files}))
    chosen = rng.choice([file for file in files if file.suffix == kind])
    chosen.write_bytes(mutate(chosen.name, chosen.read_bytes(), rng))
    if chosen.name != SUMS and (path / SUMS).exists():
        write_sums(path)
    return Case(name, path, str(chosen.relative_to(path)))


def warm_up(seeds: Path, work: Path) -> None:
    """Import and load what every case needs, before anything is measured or watched; what is whole passes."""
    for target in TARGETS.values():
        source = sorted((seeds / target.seeds).iterdir())[0]
        folder = work / f"warm-{os.getpid()}"
        (folder / "out").mkdir(parents=True)
        path = folder / source.name
        if source.is_dir():
            shutil.copytree(source, path)
        else:
            shutil.copy(source, path)
        target.run(path, folder / "out", seeds)
        shutil.rmtree(folder)
