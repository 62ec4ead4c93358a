"""README.md becomes the site's first page, and what pages link to outside of docs/ becomes part of the site."""

import re
from os.path import relpath
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md and, from page to page, the files of the repository that are linked to."""
    waiting, seen = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting += _linked(path)
        if files.get_file_from_path(_uri(path)) is None:
            files.append(File.generated(config, _uri(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between files of the site."""
    here = PurePosixPath(page.file.src_uri).parent
    source = _source(page.file.src_uri).parent
    return LINK.sub(lambda link: PurePosixPath(relpath(_uri(_target(source, link[1])), here)).as_posix(), markdown)


def _linked(path: Path) -> list[Path]:
    links = LINK.findall(path.read_text(encoding="utf-8")) if path.suffix == ".md" else []
    found = [_target(path.parent, link) for link in links]
    return [each for each in found if each.is_file() and each.is_relative_to(ROOT)]


def _target(folder: Path, link: str) -> Path:
    """Return the file that is linked to: of a folder, the README.md in it or in the nearest folder above."""
    path = (folder / link).resolve()
    while path.is_dir() and path.is_relative_to(ROOT):
        path = path / "README.md" if (path / "README.md").is_file() else path.parent
    return path


def _uri(path: Path) -> str:
    """Return where a file of the repository lies in the site's sources."""
    name = path.relative_to(ROOT).as_posix()
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def _source(uri: str) -> Path:
    if uri == "index.md":
        return ROOT / "README.md"
    return ROOT / "docs" / uri if (ROOT / "docs" / uri).exists() else ROOT / uri
