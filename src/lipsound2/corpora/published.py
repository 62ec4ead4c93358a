"""The name of a corpus that anyone may fetch -> its archives on Zenodo, downloaded, checked and unpacked."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lipsound2.corpora.layouts import LAYOUTS
from lipsound2.errors import ConfigError, DownloadError, LipSoundError, StorageError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.download import PARTIAL_SUFFIX, Patience, Remote, download
from lipsound2.runtime.executors import Executor, Worker
from lipsound2.runtime.plans import read_plan
from lipsound2.runtime.resumable import FolderJob, Report, resumable_map
from lipsound2.runtime.unpack import unpack

API = "https://zenodo.org/api/records"
KEPT_NAME = ".downloads"
"""Folder for archives that are not whole or not unpacked yet, and for records of those that are."""
SOURCE_NAME = "SOURCE.md"


@dataclass(frozen=True)
class Published:
    """A corpus that anyone may fetch.

    Attributes:
        record: Its number on Zenodo.
        reference: Whom to name.
        wanted: Matches the names of the archives that `prepare` needs.
        speaker: Matches those of them that hold one speaker, whose name is the first group; None if none does.
    """

    record: int
    reference: str
    wanted: str
    speaker: str | None = None


PUBLISHED = {
    "grid": Published(
        3625687,
        "M. Cooke, J. Barker, S. Cunningham & X. Shao: An audio-visual corpus for speech perception and automatic "
        "speech recognition. JASA 120 (5), 2006",
        r"s\d+\.zip|alignments\.zip",
        r"(s\d+)\.zip",
    ),
    "lombard-grid": Published(
        3736465,
        "N. Alghamdi, S. Maddock, R. Marxer, J. Barker & G. J. Brown: A corpus of audio-visual Lombard speech with "
        "frontal and profile views. JASA 143 (6), 2018",
        r"lombardgrid_(front|audio|json)\.zip",
    ),
}
"""By the names of their readers."""


class Archive(NamedTuple):
    """An archive of a corpus and the folder it goes into."""

    name: str
    file: Remote
    output: Path

    @property
    def path(self) -> Path:
        """Where it is kept until it is unpacked."""
        return self.output / KEPT_NAME / self.name

    @property
    def record(self) -> Path:
        """The file that says that it is unpacked."""
        return self.path.with_name(f"{self.name}.json")

    def unpacked(self) -> bool:
        """Return whether an earlier call unpacked it as it is now."""
        return read_plan(self.record).get("checksum") == self.file.checksum and self.record.exists()

    def received(self) -> int:
        """Return how many of its bytes are there."""
        if self.unpacked():
            return self.file.size or 0
        found = [path for path in (self.path, self.path.with_name(self.name + PARTIAL_SUFFIX)) if path.exists()]
        return found[0].stat().st_size if found else 0


def find_published(name: str) -> Published:
    """Return a corpus that anyone may fetch.

    Raises:
        ConfigError: There is none of that name, or one has to ask for it.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    known = f"known: {', '.join(PUBLISHED)}"
    if name in LAYOUTS:
        raise ConfigError(f"{LAYOUTS[name].title} cannot be fetched by a program: its owners want to be asked", known)
    raise ConfigError(f"no corpus {name!r} to download", f"{known}; docs/data.md says where others are had")


def find_archives(
    name: str, output: Path, speakers: Sequence[str] = (), everything: bool = False, patience: Patience | None = None
) -> list[Archive]:
    """Ask the server which archives a corpus has.

    Args:
        name: The corpus.
        output: Its folder.
        speakers: Whose archives are wanted; empty is everyone's.
        everything: Whether archives that `prepare` does not need are wanted too.
        patience: How long the server is waited for.

    Raises:
        ConfigError: There is no such corpus or speaker.
        DownloadError: The server does not answer, or nothing that makes sense.
    """
    corpus = find_published(name)
    listing = _record(output)
    listing.unlink(missing_ok=True)
    download(Remote(f"{API}/{corpus.record}"), listing, patience or Patience(attempts=4))
    archives = _listed(listing, corpus, output)
    chosen = [a for a in archives if everything or re.fullmatch(corpus.wanted, a.name)]
    if speakers:
        chosen = _of_speakers(corpus, chosen, speakers)
    if not chosen:
        raise DownloadError(f"{API}/{corpus.record} lists none of the archives that were expected")
    return chosen


def fetch_archives(
    archives: Sequence[Archive], name: str, executor: Executor, patience: Patience | None = None
) -> Report:
    """Download archives and unpack them, or go on where an earlier call was interrupted.

    Raises:
        StorageError: There is not enough room, or another process works in the folder.
    """
    return resumable_map(_Download(archives, name, patience or Patience()), executor)


class _Download(FolderJob[Archive]):
    """Archives, each unpacked as soon as it is there."""

    title = "download"

    def __init__(self, archives: Sequence[Archive], name: str, patience: Patience) -> None:
        self.output = archives[0].output
        self.archives = archives
        self.name = name
        self.patience = patience

    def begin(self) -> None:
        """See that there is room for what is missing, as archives and unpacked."""
        missing = sum(2 * (each.file.size or 0) - each.received() for each in self.archives if not each.unpacked())
        free = shutil.disk_usage(self.output).free
        if missing > free:
            raise StorageError(
                f"about {missing / 1e9:.1f} GB are needed, {self.output} has {free / 1e9:.1f} GB free",
                "free some space, choose another folder with -o, or name fewer --speakers",
            )

    def items(self) -> Sequence[Archive]:
        """List the archives."""
        return self.archives

    def staged(self, item: Archive) -> bool:
        """Return whether an archive is unpacked."""
        return item.unpacked()

    def worker(self) -> Worker[Archive]:
        """Return the worker."""
        return partial(_Fetcher, self.patience)

    def fail(self, item: Archive, error: LipSoundError) -> None:
        """Keep nothing: what failed is tried again by the next call."""

    def finish(self) -> None:
        """Say where the corpus is from."""
        corpus, terms = PUBLISHED[self.name], _terms(self.output)
        records = sorted((self.output / KEPT_NAME).glob("*.zip.json"))
        lines = [
            f"# {LAYOUTS[self.name].title}",
            "",
            f"Downloaded from https://zenodo.org/records/{corpus.record}, whose terms are: {terms}. Reference:",
            f"{corpus.reference}.",
            "",
            *(f"- {path.name.removesuffix('.json')}: {read_plan(path).get('checksum')}" for path in records),
        ]
        write_text(self.output / SOURCE_NAME, "\n".join(lines) + "\n")


class _Fetcher:
    """Downloads and unpacks archives."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience

    def __call__(self, archive: Archive) -> None:
        """Download an archive unless it is there, unpack it, write its record and remove it."""
        if not archive.path.exists():
            download(archive.file, archive.path, self.patience)
        count = unpack(archive.path, archive.output, archive.path.with_name(f"{archive.name}.files"))
        record = {"checksum": archive.file.checksum, "url": archive.file.url, "files": count}
        write_text(archive.record, json.dumps(record) + "\n")
        archive.path.unlink()


def _record(output: Path) -> Path:
    return output / KEPT_NAME / "record.json"


def _terms(output: Path) -> str:
    """Return the licence that the server states."""
    described = read_plan(_record(output)).get("metadata")
    licence = described.get("license") if isinstance(described, dict) else None
    named = licence.get("id") if isinstance(licence, dict) else licence
    return str(named) if named else "those of that page"


def _listed(listing: Path, corpus: Published, output: Path) -> list[Archive]:
    """Read the archives of a record; their names must be plain ones, since they become files."""
    try:
        record = json.loads(listing.read_text(encoding="utf-8"))
        files = [_archive(row, corpus, output) for row in record["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(f"{API}/{corpus.record} gives no list of files: {error}") from error
    return [archive for archive in files if re.fullmatch(r"[\w-][\w.-]*\.zip", archive.name)]


def _archive(row: dict[str, Any], corpus: Published, output: Path) -> Archive:
    name, checksum = str(row["key"]), str(row["checksum"])
    if not re.fullmatch(r"(md5|sha256|sha512):[0-9a-fA-F]+", checksum):
        raise ValueError(f"{name} has the checksum {checksum!r}")
    url = row.get("links", {}).get("self") or f"{API}/{corpus.record}/files/{name}/content"
    return Archive(name, Remote(str(url), int(row["size"]), checksum), output)


def _of_speakers(corpus: Published, archives: list[Archive], speakers: Sequence[str]) -> list[Archive]:
    if corpus.speaker is None:
        raise ConfigError("--speakers does nothing here: the archives hold all speakers", "leave it out")
    named = {each.name: match[1] for each in archives if (match := re.fullmatch(corpus.speaker, each.name))}
    lost = [speaker for speaker in speakers if speaker not in named.values()]
    if lost:
        known = ", ".join(sorted(named.values(), key=lambda speaker: (len(speaker), speaker)))
        raise ConfigError(f"there is no speaker {lost[0]}", f"known: {known}")
    return [each for each in archives if named.get(each.name) in speakers or each.name not in named]
