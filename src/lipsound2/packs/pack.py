"""A name or a folder -> a verified pack.

    pack/
      pack.json     name, licence, what it was trained on, scores
      README.md     the model card
      model/        config.json + model.safetensors
      waveglow/     the same of a vocoder, if there is one
      recognizer/   the same of a recogniser, and its language model, if there is one
      familiarity.* statistics of familiar faces, if there are any
      splits.csv    the clips it was trained on and those held out, if they are known
      voices.*      speaker embeddings by name, if the model speaks in more than one voice
      SHA256SUMS    of all other files, as `sha256sum` writes and checks it

A run folder can stand in for a pack of one model: its best is taken, with the vocoder and recogniser of the pack that
it started from.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from operator import or_
from pathlib import Path

import torch

from lipsound2.config import ModelConfig, read_config, to_json
from lipsound2.errors import CheckpointError, guard
from lipsound2.model import LipSound2
from lipsound2.packs.card import with_front_matter
from lipsound2.packs.familiarity import Familiarity
from lipsound2.packs.history import History, read_history, write_history
from lipsound2.packs.voices import PackVoices
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.download import cache_folder, digest
from lipsound2.runtime.foreign import describe, look
from lipsound2.runtime.names import is_folder
from lipsound2.runtime.plaintext import read_text
from lipsound2.runtime.weights import WEIGHTS_NAME, load_folder, load_weights, save_weights

INFO_NAME = "pack.json"
SUMS_NAME = "SHA256SUMS"
CARD_NAME = "README.md"
START_NAME = "start.json"
"""What the pack that a run started from says of itself."""
PARTS = ("waveglow", "recognizer")
"""What a pack may hold besides its model."""
DEFAULT_PACK = "grid-s1"
PACKS_VARIABLE = "LIPSOUND2_PACKS"
JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "icon\r"})
"""Files and folders that Windows and macOS leave in folders, beside hidden ones; packs do without them."""
_SUM = re.compile(r"(?P<digest>[0-9a-fA-F]{64})[ \t]+\*?(?P<name>\S.*)")
_PLAINLY_OTHER = ("is empty", "is a web page", "is a Git LFS", "is a git-annex", "holds zeros")
PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})


@dataclass(frozen=True)
class PackInfo:
    """What a pack says of itself.

    Attributes:
        name: As in `--pack`.
        version: Of the pack.
        licence: SPDX identifier of the weights' licence.
        trained_on: The data and its licence.
        vocoder: Default vocoder.
        scores: Figures by name, such as `STOI`; the card says how they were measured.
        knows: Speakers and vocabulary it was trained on, printed at its first use.
    """

    name: str
    version: str
    licence: str
    trained_on: str
    vocoder: str = "griffin-lim"
    scores: dict[str, float] = field(default_factory=dict)
    knows: str = ""


@dataclass(frozen=True)
class Pack:
    """A folder that was found and, for packs, verified."""

    folder: Path
    info: PackInfo
    model_folder: Path

    @property
    def waveglow(self) -> Path | None:
        """Folder of the pack's own WaveGlow."""
        return self.part("waveglow")

    @property
    def recognizer(self) -> Path | None:
        """Folder of the pack's own recogniser."""
        return self.part("recognizer")

    @property
    def history(self) -> History:
        """Clips that it was trained on and those held out, as far as they are known."""
        return read_history(self.folder)

    def part(self, name: str) -> Path | None:
        """Folder of one of `PARTS`, if there is one."""
        folder = self.folder / name
        return folder if (folder / WEIGHTS_NAME).is_file() else None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @property
    def model_digest(self) -> str:
        """SHA-256 of the model's weights."""
        return digest(self.model_folder / WEIGHTS_NAME, "sha256")

    def load_model(self, device: torch.device | str = "cpu") -> LipSound2:
        """Rebuild the model from its configuration, in evaluation mode.

        Raises:
            CheckpointError: The pack holds none, or it is damaged.
        """
        if not self.model_folder.is_dir():
            raise CheckpointError(f"{self.folder} holds no model of torch", "if it is an exported pack: --backend onnx")
        return load_model(self.model_folder, device)


def find_pack(name: str | Path) -> Pack:
    """Find a pack by name, or take a pack's or a run's folder.

    Raises:
        CheckpointError: There is none, or a file of it was changed.
    """
    folder = Path(name)
    if not is_folder(name):
        folders = {path.name: path for path in reversed(_installed())}
        if str(name) not in folders:
            raise CheckpointError(f"no pack and no folder {str(name)!r}", f"installed: {', '.join(folders) or 'none'}")
        folder = folders[str(name)]
    if (folder / INFO_NAME).is_file():
        _verify_once(folder, _state(folder))
        return _pack(folder)
    if (folder / "best" / WEIGHTS_NAME).is_file():
        return Pack(folder, _run_info(folder), folder / "best")
    raise CheckpointError(f"{folder} is neither a pack nor a training run", f"a pack holds {INFO_NAME}")


def carry(start: Pack, run: Path) -> None:
    """Give a run the vocoder and the recogniser of the pack that it starts from."""
    for part in PARTS:
        source = start.part(part)
        if source and not (run / part).exists():
            with atomic_path(run / part) as folder:
                shutil.copytree(source, folder)
    write_text(run / START_NAME, to_json(start.info))


def user_folder() -> Path:
    """Return the folder of packs that the user added."""
    return cache_folder() / "packs"


def list_packs() -> list[Pack]:
    """List the packs of the package, of the user and of the folders in LIPSOUND2_PACKS, not verified."""
    return [_pack(folder) for folder in _installed()]


def verify(folder: Path) -> None:
    """Compare every file of a pack with its checksums.

    Raises:
        CheckpointError: A file is missing, was changed, is not listed or is a pickle.
    """
    wanted = read_sums(folder)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS_NAME}
    for name in sorted({name for name in found if not _is_junk(name)} | wanted.keys()):
        if Path(name).suffix.lower() in PICKLES:
            raise CheckpointError(f"{folder / name} may be a pickle, which packs never hold", "do not use this pack")
        if name not in found:
            raise CheckpointError(f"{folder / name} is missing", "fetch the pack again")
        if name not in wanted:
            raise CheckpointError(f"{folder / name} is not listed in {SUMS_NAME}", "remove it, or fetch the pack again")
        if wanted[name] != digest(folder / name, "sha256"):
            raise _changed(folder / name)


@lru_cache(maxsize=16)
def _verify_once(folder: Path, state: frozenset[tuple[str, int, int, int]]) -> None:
    """Verify a pack unless this process did and no file of it was touched since."""
    verify(folder)


def _state(folder: Path) -> frozenset[tuple[str, int, int, int]]:
    """Return the size of each file and when it was last written and changed."""
    found = ((path.relative_to(folder).as_posix(), path.stat()) for path in folder.rglob("*") if path.is_file())
    return frozenset((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in found)


def read_sums(folder: Path) -> dict[str, str]:
    """Read the checksums of a pack by file name, as `sha256sum` and its like write them on any system.

    Raises:
        CheckpointError: There are none, they are damaged, or they name a file outside of the pack.
    """
    path = folder / SUMS_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {SUMS_NAME}", "fetch the pack again")
    wanted: dict[str, str] = {}
    with guard(path):
        lines = read_text(path).text.split("\n")
    for line in lines:
        match = _SUM.fullmatch(line.rstrip())
        name = match["name"].removeprefix("./") if match else ""
        if not match and line.strip():
            raise CheckpointError(
                f"{path} {describe(path)}, no list of checksums: {line[:40]!r}", "fetch the pack again"
            )
        if match and (name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/")):
            raise CheckpointError(f"{path} names a file outside of the pack: {name}", "do not use this pack")
        if match and wanted.setdefault(name, match["digest"].lower()) != match["digest"].lower():
            raise CheckpointError(f"{path} names {name} twice", "fetch the pack again")
    return wanted


def write_pack(
    runs: Mapping[str, Path],
    target: Path,
    info: PackInfo,
    card: str,
    dtype: torch.dtype = torch.float16,
    force: bool = False,
    familiarity: Familiarity | None = None,
    voices: PackVoices | None = None,
) -> Pack:
    """Make a pack from the best checkpoints of training runs.

    Args:
        runs: Folders of runs, or of imported models, by the part that is made of them: `model`, `waveglow`,
            `recognizer`. What the run of the model carries of the latter is included if none is named.
        target: Folder of the pack.
        info: What `pack.json` says.
        card: The model card in Markdown; front matter is put before it.
        dtype: Type in which the weights are stored.
        force: Whether to replace an older pack.
        familiarity: Measures how familiar a face is to the model.
        voices: Voices of a model that is conditioned on speaker embeddings.
    """
    if target.exists() and not force:
        raise CheckpointError(f"{target} exists", "replace it with --force")
    carried = {part: runs["model"] / part for part in PARTS if "model" in runs and (runs["model"] / part).is_dir()}
    runs = carried | dict(runs)
    with atomic_path(target) as folder:
        for part, run in runs.items():
            best = run / "best" if (run / "best").is_dir() else run
            if not (best / WEIGHTS_NAME).is_file():
                raise CheckpointError(f"{run} holds no model", "train it for at least one epoch")
            shutil.copytree(best, folder / part)
            save_weights(folder / part / WEIGHTS_NAME, load_weights(best / WEIGHTS_NAME), dtype)
        write_text(folder / INFO_NAME, to_json(info))
        known = (info.name, info.licence, info.trained_on, info.scores)
        write_text(folder / CARD_NAME, with_front_matter(card, *known))
        write_history(folder, reduce(or_, map(read_history, runs.values()), History()))
        if familiarity:
            familiarity.save(folder)
        if voices:
            voices.save(folder)
        write_sums(folder)
    return _pack(target)


def write_sums(folder: Path) -> None:
    """Write the checksums of all files of a pack."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{digest(folder / name, 'sha256')}  {name}\n" for name in names if name != SUMS_NAME and not _is_junk(name)
    ]
    write_text(folder / SUMS_NAME, "".join(lines))


def load_model(folder: Path, device: torch.device | str = "cpu") -> LipSound2:
    """Rebuild a model from `config.json` and `model.safetensors`, in evaluation mode."""
    return load_folder(folder, ModelConfig, LipSound2, device)


def _pack(folder: Path) -> Pack:
    return Pack(folder, read_config(folder / INFO_NAME, PackInfo), folder / "model")


def _run_info(folder: Path) -> PackInfo:
    info = PackInfo(folder.resolve().name, "0", "unknown", "a training run")
    if not (folder / START_NAME).is_file():
        return info
    start = read_config(folder / START_NAME, PackInfo)
    return replace(info, trained_on=f"a training run from {start.name}", vocoder=start.vocoder)


def _installed() -> list[Path]:
    """List the folders of packs; LIPSOUND2_PACKS, then the user's come first and hide others of their name."""
    variable = os.environ.get(PACKS_VARIABLE, "")
    named = [Path(part) for part in variable.split(os.pathsep) if part]
    roots = [*named, user_folder(), Path(__file__).parent / "installed"]
    return [path for root in roots if root.is_dir() for path in sorted(root.iterdir()) if (path / INFO_NAME).is_file()]


def _is_junk(name: str) -> bool:
    """Return whether a file is one that systems leave everywhere and nobody reads."""
    return any(part.startswith(".") or part.lower() in JUNK for part in name.split("/"))


def _changed(path: Path) -> CheckpointError:
    """Return the error of a changed file; it names what the file is if that is plain, such as a web page."""
    found = look(path)
    if found.what.startswith(_PLAINLY_OTHER):
        return CheckpointError(f"{path} differs from its checksum: it {found.what}", found.hint)
    return CheckpointError(f"{path} differs from its checksum", "fetch the pack again")
