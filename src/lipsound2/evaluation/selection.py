"""All clips of a source and the history of a pack -> the clips that are evaluated, none that the pack was trained on.

A clip that the pack knows has the split that it had there: the split of the data may have been drawn anew since.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from lipsound2.corpora.clip import spread
from lipsound2.corpora.protocols import Protocol, find_protocol
from lipsound2.errors import DataError
from lipsound2.evaluation.material import ALL, Item, Material, Prepared, Source, read_material
from lipsound2.packs.history import History

KEEP = "--include-trained keeps them, but their figures say nothing of other clips"


class Selection(NamedTuple):
    """Clips that are evaluated.

    Attributes:
        items: The clips.
        left_out: Number of clips that were left out, since the pack was trained on them.
        moved: Number of clips of other splits in the data than in the pack's history.
    """

    items: list[Item]
    left_out: int = 0
    moved: int = 0

    @property
    def trained(self) -> int:
        """Number of clips that the pack was trained on."""
        return sum(item.trained for item in self.items)


@dataclass(frozen=True)
class _Chooser:
    """Decides about one clip after another."""

    source: Source
    history: History
    protocol: Protocol | None
    prepared: bool

    @property
    def fixed(self) -> bool:
        """Whether the protocol splits clips itself instead of keeping the split that they have."""
        return self.protocol is not None and (self.protocol.unseen or self.protocol.share > 0)

    def split(self, item: Item) -> str | None:
        """Return the split of a clip: the protocol's, else that of the pack's training, else its own."""
        own = item.split if self.fixed else self.history.by_name(item.id) or item.split
        return self.protocol.split(item.clip, item.speaker, own) if self.protocol else own

    def takes(self, item: Item) -> bool:
        """Return whether a clip is one of those asked for.

        Raises:
            DataError: It was prepared otherwise than the protocol has it, and whether it was trained on is not known.
        """
        split = self.split(item)
        if split is None:
            return False
        if self.fixed and self.prepared and split != item.split and not self.history and self._asks(item, item.split):
            raise DataError(
                f"{item.id} was prepared as {item.split}, the protocol {self.source.protocol} makes it {split}",
                f"prepare and train with --protocol {self.source.protocol}",
            )
        return self._asks(item, split)

    def trained(self, item: Item, fingerprint: Callable[[], str]) -> bool:
        """Return whether the pack learned from a clip: in training, or where test clips are asked for in validation."""
        seen = self.history.by_name(item.id)
        if seen is None and self.history.has_audio:
            seen = self.history.by_audio(fingerprint())
        return seen == "train" or (seen == "val" and self.source.split == "test")

    def _asks(self, item: Item, split: str) -> bool:
        return self.source.takes(split, item.speaker)


def select(source: Source, history: History) -> Selection:
    """Choose the clips of a source.

    Raises:
        DataError: There are none, none of the protocol's speakers, or the pack was trained on all of them.
    """
    material = read_material(source)
    chooser = _chooser(source, history, material)
    if chooser.protocol:
        chooser.protocol.check({item.speaker for item in material.items})
    found = [
        item._replace(trained=chooser.trained(item, partial(material.fingerprint, place)))
        for place, item in enumerate(material.items)
        if chooser.takes(item)
    ]
    if not found:
        speakers = f" of {', '.join(source.speakers)}" if source.speakers else ""
        raise DataError(
            f"{source.data} holds no clip of split {source.split!r}{speakers}", f"take all clips with --split {ALL}"
        )
    kept = found if source.include_trained or source.split == "train" else [item for item in found if not item.trained]
    if not kept:
        raise DataError(f"the pack was trained on all {len(found)} clips of split {source.split!r}", KEEP)
    moved = sum(chooser.split(item) != item.split for item in kept)
    return Selection(spread(kept, source.limit), len(found) - len(kept), moved)


def training_clips(source: Source, history: History, limit: int) -> Material:
    """Open clips of everyone's train split, spread evenly; there may be none."""
    train = replace(source, split="train", speakers=())
    material = read_material(train)
    chooser = _chooser(train, history, material)
    material.keep(spread([item for item in material.items if chooser.takes(item)], limit))
    return material


def load(source: Source, items: Sequence[Item]) -> Material:
    """Open the clips of a selection."""
    material = read_material(source)
    material.keep(list(items))
    return material


def _chooser(source: Source, history: History, material: Material) -> _Chooser:
    protocol = find_protocol(source.protocol) if source.protocol else None
    return _Chooser(source, history, protocol, isinstance(material, Prepared))
