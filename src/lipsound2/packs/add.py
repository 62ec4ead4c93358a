"""A URL, a folder or a zip archive of a pack -> a verified pack in the user's folder, found by its name."""

import shutil
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlsplit

from lipsound2.config import read_config
from lipsound2.errors import CheckpointError, DownloadError
from lipsound2.packs.pack import (
    INFO_NAME,
    PICKLES,
    SUMS_NAME,
    Pack,
    PackInfo,
    find_pack,
    read_sums,
    user_folder,
    verify,
)
from lipsound2.runtime.atomic import atomic_path, storing
from lipsound2.runtime.claims import claim
from lipsound2.runtime.download import Patience, Remote, TooLargeError, cache_folder, digest, download
from lipsound2.runtime.names import file_name, is_folder
from lipsound2.runtime.unpack import unpack

PATIENCE = Patience()
LARGEST = 32.0
"""Gigabytes of a pack that is downloaded, unless another limit is asked for."""


def add_pack(
    source: str,
    checksum: str | None = None,
    force: bool = False,
    patience: Patience = PATIENCE,
    largest: float = LARGEST,
) -> Pack:
    """Install a pack for the user.

    Args:
        source: URL or path of a pack's folder or of a zip archive of one; below the URL of a folder lie its files.
        checksum: SHA-256 that the pack's list of checksums must have.
        force: Whether to replace a pack of the same name.
        patience: How long a server is waited for.
        largest: Most gigabytes that are downloaded.

    Raises:
        CheckpointError: It is no pack, it is damaged, or there is one of its name.
        DownloadError: It cannot be fetched.
    """
    remote = source.startswith(("https://", "http://"))
    with storing(cache_folder()), claim(cache_folder(), "packs", wait=True) if remote else nullcontext():
        cache_folder().mkdir(parents=True, exist_ok=True)
        fetched = _fetch(source.rstrip("/"), checksum, patience, int(largest * 1e9)) if remote else Path(source)
        with TemporaryDirectory(prefix="unpacked-", dir=cache_folder()) as scratch:
            added = _install(_unpacked(fetched, Path(scratch)), checksum, force)
        if remote:
            shutil.rmtree(fetched.parent if fetched.is_file() else fetched)
    return added


def remove_pack(name: str) -> Path:
    """Remove a pack that the user added, and return the folder that it was in.

    Raises:
        CheckpointError: The user added none of this name.
    """
    there = sorted(path.name for path in user_folder().glob("*") if path.is_dir())
    if name not in there:
        raise CheckpointError(f"{name!r} is no pack that was added", f"there are: {', '.join(there) or 'none'}")
    with storing(user_folder()):
        shutil.rmtree(user_folder() / name)
    return user_folder() / name


def _fetch(url: str, checksum: str | None, patience: Patience, most: int) -> Path:
    """Fetch the archive, or the checksums and then the files they name that are not there yet."""
    folder = cache_folder() / "incoming" / sha256(url.encode()).hexdigest()[:16]
    try:
        if urlsplit(url).path.lower().endswith(".zip"):
            download(Remote(url, most=most), folder / "pack.zip", patience)
            return folder / "pack.zip"
        _fetch_files(url, checksum, patience, most, folder)
    except TooLargeError as error:
        raise DownloadError(error.message, "allow more with --max-gb") from error
    return folder


def _fetch_files(url: str, checksum: str | None, patience: Patience, most: int, folder: Path) -> None:
    expected = f"sha256:{checksum}" if checksum else None
    for name in (SUMS_NAME, f"{SUMS_NAME}.partial"):
        (folder / name).unlink(missing_ok=True)
    download(Remote(f"{url}/{SUMS_NAME}", checksum=expected), folder / SUMS_NAME, patience)
    for name, digits in read_sums(folder).items():
        if Path(name).suffix.lower() in PICKLES:
            raise CheckpointError(f"{url}/{name} may be a pickle, which packs never hold", "do not use this pack")
        if not ((folder / name).is_file() and digest(folder / name, "sha256") == digits):
            download(Remote(f"{url}/{quote(name)}", checksum=f"sha256:{digits}", most=most), folder / name, patience)
        most -= (folder / name).stat().st_size


def _unpacked(source: Path, scratch: Path) -> Path:
    """Return a folder as it is, an archive unpacked."""
    if is_folder(source):
        return source
    if not source.is_file():
        raise CheckpointError(f"{source} is no URL, no folder and no archive")
    unpack(source, scratch / "pack", scratch / "part")
    return next((scratch / "pack").iterdir())


def _install(folder: Path, checksum: str | None, force: bool) -> Pack:
    """Copy the files that the checksums name, and verify the copy before it takes its place."""
    names = [*read_sums(folder), SUMS_NAME]
    if checksum and digest(folder / SUMS_NAME, "sha256") != checksum.lower():
        raise DownloadError(f"{folder / SUMS_NAME} differs from the given checksum", "do not use this pack")
    verify(folder)
    if INFO_NAME not in names:
        raise CheckpointError(f"{folder} is no pack: it holds no {INFO_NAME}")
    name = read_config(folder / INFO_NAME, PackInfo).name
    if not name or "/" in name or name != file_name(name):
        raise CheckpointError(f"{name!r} cannot be the name of a pack", "small letters, digits, _ and -")
    target = user_folder() / name
    if target.exists() and not force:
        raise CheckpointError(f"{target} exists", "replace it with --force")
    with atomic_path(target) as copy:
        for each in names:
            (copy / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / each, copy / each)
        verify(copy)
    return find_pack(target)
