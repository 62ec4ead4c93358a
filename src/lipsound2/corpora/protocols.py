"""The name of a protocol -> whose clips are tested, how they are split, and what others published for it.

Published figures come with their source: `own` were read in the named system's own paper or code,
`quoted` in a later paper or review. Figures that could not be read are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.tcd_timit import TEST_VOLUNTEERS
from lipsound2.errors import ConfigError, DataError
from lipsound2.runtime.terminal import warn


@dataclass(frozen=True)
class Published:
    """What others report; None where they report nothing or it could not be read."""

    system: str
    stoi: float | None = None
    estoi: float | None = None
    pesq: float | None = None
    wer: float | None = None
    cer: float | None = None
    source: str = "quoted"


@dataclass(frozen=True)
class Protocol:
    """Whose clips are tested and how they are split.

    Attributes:
        title: In a few words.
        corpus: Its layout, see `corpora.READERS`.
        speakers: Who is tested; empty is everyone.
        unseen: Whether the tested speakers are left out of training altogether.
        share: Share of everyone's clips that is tested, by a fixed draw; 0 keeps the corpus's own split.
        grammar: What can be said at all, see `sphinx.GRAMMARS`.
        published: By others.
        note: What to know when comparing.
    """

    title: str
    corpus: str
    speakers: tuple[str, ...] = ()
    unseen: bool = False
    share: float = 0.0
    grammar: str | None = None
    published: tuple[Published, ...] = field(default=())
    note: str = ""

    def split(self, clip_id: str, speaker: str, own: str) -> str | None:
        """Return the split of a clip, given the corpus's own; None if the clip is not used."""
        if self.unseen:
            if speaker in self.speakers:
                return "test"
            return "val" if split_by_hash(clip_id, 0.05, 0.0) == "val" else "train"
        if self.speakers and speaker not in self.speakers:
            return None
        return split_by_hash(clip_id, 0.05, self.share) if self.share else own

    def assign(self, clips: Iterator[Clip]) -> Iterator[Clip]:
        """Yield clips with the protocol's splits, without those that it does not use.

        Raises:
            DataError: None is of a speaker that is tested; the clips were yielded all the same.
        """
        seen = set[str]()
        for clip in clips:
            seen.add(clip.speaker)
            split = self.split(clip.id, clip.speaker, clip.split)
            if split:
                yield replace(clip, split=split)
        self.check(seen)

    def check(self, seen: set[str]) -> None:
        """See that speakers who are tested are among those that are there.

        Raises:
            DataError: None is.
        """
        missing = [speaker for speaker in self.speakers if speaker not in seen]
        if self.speakers and len(missing) == len(self.speakers):
            there = ", ".join(sorted(seen)[:4]) or "no clip"
            raise DataError(
                f"the protocol tests the speakers {', '.join(self.speakers[:4])}{' ...' * (len(missing) > 4)}, "
                f"none of which is there: found {there}",
                f"its corpus is read with: lipsound2 prepare {self.corpus} FOLDER",
            )
        if missing and self.unseen:
            warn(f"of the {len(self.speakers)} speakers that are tested {', '.join(missing)} are not there")


_OWN = "own"
_SEEN = "The published 90/5/5 lists differ from paper to paper; ours is a fixed draw by sentence."
_PESQ = "The mode of the published PESQ is not stated in what was read; nb and wb differ by more than systems do."
_LIPS = "The published error rates are those of lip readers that write text and make no sound."
_UNSEEN_GRID = tuple(f"s{number}" for number in (2, 4, 11, 13, 15, 18, 19, 25, 31, 33))

PROTOCOLS: dict[str, Protocol] = {
    "s1": Protocol("GRID, speaker s1, sentences not seen in training", "grid", ("s1",), grammar="grid"),
    "grid-4-speakers": Protocol(
        "GRID, speakers s1, s2, s4 and s29, seen in training",
        "grid",
        ("s1", "s2", "s4", "s29"),
        grammar="grid",
        published=(
            Published("1D-GAN (2019)", wer=26.6),
            Published("VAE-based (2021)", 0.724, 0.540, 1.93),
            Published("Visual Voice Memory (2021)", 0.738, 0.579, 1.98, source=_OWN),
            Published("AV2A (2023)", 0.698, 0.532, 1.95, 3.7),
        ),
        note=f"{_SEEN} {_PESQ}",
    ),
    "grid-unseen": Protocol(
        "GRID, ten speakers not seen in training",
        "grid",
        _UNSEEN_GRID,
        unseen=True,
        grammar="grid",
        published=(
            Published("Visual Voice Memory (2021)", 0.600, 0.315, 1.33, source=_OWN),
            Published("SVTS (2022)", 0.588, 0.318, 1.40, 17.9),
            Published("Kefalas (2023)", 0.598, 0.335, 1.43, 17.9),
            Published("LipNet, lip reading", wer=11.4),
            Published("HLR-Net, lip reading", wer=9.7),
            Published("Ma (2022), lip reading", wer=4.8),
        ),
        note=f"The speakers are those of VCA-GAN's published lists. {_PESQ} The lip readers test other speakers.",
    ),
    "grid-overlapped": Protocol(
        "GRID, about 255 sentences of each of 33 speakers, seen in training",
        "grid",
        share=0.255,
        grammar="grid",
        published=(
            Published("LipNet, lip reading", wer=4.8),
            Published("WAS, lip reading", wer=3.0),
            Published("LCANet, lip reading", wer=2.9),
            Published("LipSound, lip reading", wer=2.5),
            Published("Ma (2022), lip reading", wer=1.2),
        ),
        note=f"LipNet draws exactly 255 sentences a speaker; ours are a fixed draw of 25.5 % of them. {_LIPS}",
    ),
    "tcd-timit-lipspeakers": Protocol(
        "TCD-TIMIT, the three professional lip speakers, seen in training",
        "tcd-timit",
        ("Lipspkr1", "Lipspkr2", "Lipspkr3"),
        note="No figure of others for this split could be read.",
    ),
    "tcd-timit-unseen": Protocol(
        "TCD-TIMIT, 17 volunteers not seen in training",
        "tcd-timit",
        TEST_VOLUNTEERS,
        unseen=True,
        note="Ma (2022) reports word error rates of 16.9 and 21.8 % for lip reading in two settings of TCD-TIMIT; "
        "which of them is this one could not be read.",
    ),
    "cmlr": Protocol(
        "CMLR, 20,418 test sentences in Mandarin",
        "cmlr",
        published=(Published("Ma (2022), lip reading", cer=8.0),),
        note=f"The split is that of the corpus, 71,448 / 10,206 / 20,418. {_LIPS}",
    ),
}


def find_protocol(name: str) -> Protocol:
    """Return a protocol.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"no protocol {name!r}", f"known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
