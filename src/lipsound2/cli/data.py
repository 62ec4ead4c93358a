"""`lipsound2 prepare`, `download`, `join` and `simulate`: corpora of videos."""

from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    DetectorFile,
    DetectorName,
    DetectorOption,
    Grammar,
    Output,
    RayAddress,
    Several,
    Shard,
    Workers,
    detector_maker,
    exit_with,
    find_share,
    finite,
)
from lipsound2.errors import ConfigError, DownloadError
from lipsound2.runtime.pace import pacing
from lipsound2.runtime.terminal import counting, result, say, transferring, warn


def prepare(
    corpus: Annotated[
        str, typer.Argument(help="Layout of the corpus: folder, grid, ...; see docs/data.md.", show_default=False)
    ],
    source: Annotated[Path, typer.Argument(help="Its folder.", show_default=False)],
    output: Output = Path("prepared"),
    protocol: Annotated[str | None, typer.Option(help="Splits by name, such as grid-unseen.")] = None,
    workers: Workers = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="Clips a shard.")] = 100,
    max_mismatch: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds by which audio and video may differ.")
    ] = 0.25,
    longest: Annotated[
        float, typer.Option(min=2, max=600, callback=finite, help="Seconds beyond which a stretch is split at a pause.")
    ] = 20.0,
    several: Annotated[
        Several, typer.Option(help="While several faces of similar size are seen: use none, the largest or each.")
    ] = Several.leave,
    max_failures: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Share of clips that may fail without an error.")
    ] = 0.1,
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    shard: Shard = None,
    ray: RayAddress = None,
) -> None:
    """Turn a corpus into shards of face crops and audio; a second call resumes."""
    from lipsound2 import corpora
    from lipsound2.corpora.protocols import find_protocol
    from lipsound2.data.prepare import PrepareConfig
    from lipsound2.data.prepare import prepare as run
    from lipsound2.data.sample import SampleConfig
    from lipsound2.data.shards import INDEX_NAME
    from lipsound2.inference.jobs import SOUND_SUFFIXES
    from lipsound2.media import VIDEO_SUFFIXES
    from lipsound2.runtime.ray_cluster import LOCAL, Ray
    from lipsound2.runtime.remote import exists, is_remote, make_mirror, url_of

    make, share = detector_maker(detector, detector_file), find_share(shard)
    sample = SampleConfig(max_mismatch=max_mismatch, longest=longest, several=several.value)
    config = PrepareConfig(sample, shard_size, workers)
    if ray not in (None, LOCAL) and is_remote(output):
        raise ConfigError(f"--ray needs an -o that all of its machines share, not {url_of(output)}", "or give --shard")
    mirror = make_mirror(source, VIDEO_SUFFIXES | SOUND_SUFFIXES) if is_remote(source) else None
    clips = corpora.find_reader(corpus)(mirror.folder if mirror else source)
    if protocol:
        clips = find_protocol(protocol).assign(clips)
    with pacing("preparing") as update:
        summary = run(clips, output, config, make, update, share, Ray(ray, workers) if ray else None, mirror)
    place = url_of(output) if is_remote(output) else str(output)
    account = summary.account
    told = {"output": place, "samples": summary.samples, "failures": summary.failures, "seconds": account.facts()}
    for line in account.table():
        say(line)
    if account.untold:
        say(f"{account.untold} clips with a transcript became several samples, which have none")
    result(f"{place}: {summary.samples} samples, {summary.failures} failures", told)
    if not exists(output / INDEX_NAME):
        say(f"share {share} is done; the last of the others finishes {place}, or the same command without --shard")
    elif summary.failures:
        say(f"the reasons are in {place}/failures.jsonl")
    if summary.failures > max_failures * summary.clips:
        raise typer.Exit(1)


def download(
    corpus: Annotated[str, typer.Argument(help="Name of the corpus, such as grid.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", readable=False, help="Its folder.", show_default="the corpus's name"),
    ] = None,
    speakers: Annotated[
        str | None, typer.Option(help="Whose archives alone are fetched, such as s1,s2.", show_default="all")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also archives that prepare does not need: other views, audio alone.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Archives that are fetched at once.")] = 4,
) -> None:
    """Download and unpack a corpus that anyone may have; a second call goes on where the first was."""
    from lipsound2.corpora import published
    from lipsound2.runtime.executors import choose

    folder = output or Path(corpus)
    chosen = tuple(filter(None, (speakers or "").replace(" ", "").split(",")))
    archives = published.find_archives(corpus, folder, chosen, everything)
    total = sum(archive.file.size or 0 for archive in archives)
    with transferring(corpus, lambda: sum(archive.received() for archive in archives), total):
        report = published.fetch_archives(archives, corpus, choose(workers))
    for failure in report.failures:
        warn(f"{failure.name}: {failure.reason}")
    if not report.made and not report.kept:
        raise DownloadError("no archive could be fetched", "the same command goes on where it broke off")
    told = {"output": str(folder), "made": report.made, "kept": report.kept, "failures": len(report.failures)}
    result(f"{folder}: {report.made} archives fetched, {report.kept} there, {len(report.failures)} failures", told)
    exit_with(len(report.failures), len(archives), "archives")
    say(f"next: lipsound2 prepare {corpus} {folder} -o prepared/")


def join(
    folders: Annotated[list[Path], typer.Argument(help="What `lipsound2 prepare` wrote.", show_default=False)],
    output: Output = Path("joined"),
) -> None:
    """Join prepared folders, to train on all of them."""
    from lipsound2.data.join import join as run

    samples = run(folders, output)
    result(f"{output}: {samples} samples", {"output": str(output), "samples": samples})


def simulate(
    output: Output = Path("sim"),
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")] = 500,
    speakers: Annotated[int, typer.Option(min=1, help="How many speakers.")] = 8,
    grammar: Annotated[Grammar, typer.Option(help="What they say.")] = Grammar.grid,
    text: Annotated[Path | None, typer.Option(help="Your own sentences instead, one a line.")] = None,
    like: Annotated[Path | None, typer.Option(help="A corpus whose held-out sentences are held out here too.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; another seed makes other speakers.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Side of the frames in pixels.")] = 256,
    difficulty: Annotated[
        float, typer.Option(min=0, max=2, callback=finite, help="0 a studio, 1 a poor camera.")
    ] = 1.0,
    val: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Share of sentences held out for validation.")
    ] = 0.1,
    test: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Share of sentences held out for testing.")
    ] = 0.1,
    workers: Workers = 0,
    shard: Shard = None,
) -> None:
    """Make a corpus of synthetic talking heads (CC0). A second call resumes."""
    from lipsound2.simulate import SimulateConfig
    from lipsound2.simulate import simulate as run

    config = SimulateConfig(clips, speakers, grammar.value, text, seed, size, difficulty, val, test)
    with counting("simulating") as update:
        report = run(config, output, workers, like, update, find_share(shard))
    told = {"output": str(output), "made": report.made, "kept": report.kept, "failures": len(report.failures)}
    if report.left:
        say(f"{report.left} clips are left to the other shares, or to the same command without --shard")
    result(f"{output}: {report.made} clips made, {report.kept} kept, {len(report.failures)} failures", told)
    for failure in report.failures:
        say(f"{failure.name}: {failure.reason}")
    exit_with(len(report.failures), clips, "clips")
