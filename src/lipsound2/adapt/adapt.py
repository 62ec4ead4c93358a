"""A folder of one person's videos and a pack -> a pack with the person's voice.

packs/me            the new pack
packs/me-work/      what it was made of; the same command goes on there
  adapt.json        the settings that it was begun with
  consent.json      that the person agreed
  prepared/         face crops and audio of all videos
  look/             what was found in them
  chosen/           the clips that are used, some of them held out
  run/              the training
  recognizer/       the adapted recogniser, where there are transcripts
  before/, after/   reports on the held-out clips, with the installed pack and with the new one
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightning_fabric

from lipsound2 import faces
from lipsound2.adapt import card
from lipsound2.adapt.choose import choose_clips
from lipsound2.adapt.consent import missing, read_consent
from lipsound2.adapt.look import look_at
from lipsound2.adapt.plan import Plan, choose_settings, duration, time_it
from lipsound2.adapt.survey import Survey, check, lines, minutes, reasons, survey, warnings
from lipsound2.adapt.words import Choice, adapt_recognizer, enough, write_down
from lipsound2.config import CONFIG_NAME, ModelConfig, read_config
from lipsound2.corpora import Clip, read_folder
from lipsound2.corpora.clip import SPLITS
from lipsound2.corpora.splits import SPLITS_NAME
from lipsound2.data.prepare import PrepareConfig, SampleConfig, prepare
from lipsound2.data.repair import read_failures
from lipsound2.data.shards import Entry, read_index
from lipsound2.errors import CheckpointError, DataError
from lipsound2.evaluation.bench import Settings
from lipsound2.evaluation.evaluate import evaluate
from lipsound2.evaluation.material import Source
from lipsound2.evaluation.summary import SUMMARY_NAME, Summary, read_summary
from lipsound2.packs import Pack, find_pack, write_pack
from lipsound2.packs.pack import DEFAULT_PACK
from lipsound2.recognizer.transcriber import JasperRecognizer
from lipsound2.runtime.claims import claim
from lipsound2.runtime.devices import find_device
from lipsound2.runtime.plans import changes, write_plan
from lipsound2.runtime.terminal import say, warn
from lipsound2.training.familiarity import make_familiarity
from lipsound2.training.run import make_fabric, run

PLAN_NAME = "adapt.json"
VERSION = "1"
MISMATCH = 1.0
"""Seconds by which video and audio of a file may differ in length; whether they are in step is measured."""
LONGEST = 10.0
"""Seconds beyond which a stretch of a video is split, so that some can be held out."""
STRETCH = 4.0
"""Seconds of a training example."""
METRICS = ("stoi", "estoi", "mcd", "speaker_similarity")
SCORED = 6.0
"""Seconds, about, that a core needs to measure a clip with a pack."""
Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a bar with a title; see `runtime.terminal.counting`."""


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        source: Folder of videos.
        output: Folder of the new pack.
        pack: Pack to start from.
        several: What is used while several faces are seen, as in `SampleConfig`.
        person: Name of a video of the person, where several are heard; None for the one who speaks most.
        transcribe: Whether Whisper writes down what is said where there are no transcripts.
    """

    source: Path
    output: Path
    pack: str = DEFAULT_PACK
    several: str = "leave"
    person: str | None = None
    transcribe: bool = False

    @property
    def work(self) -> Path:
        """Folder of what the pack is made of."""
        return self.output.with_name(f"{self.output.name}-work")


@dataclass(frozen=True)
class Adapted:
    """What came out.

    Attributes:
        pack: The new pack; None of a dry run.
        found: What there was.
        seconds: About how long the training takes at most.
        before: Report on the held-out clips with the pack that it started from; None of a dry run.
        after: The same with the new pack.
    """

    pack: Path | None
    found: Survey
    seconds: float
    before: Summary | None = None
    after: Summary | None = None


def adapt(
    request: Request,
    counting: Counting,
    dry_run: bool = False,
    device: str = "auto",
    workers: int = 0,
    detector: Callable[[], faces.Detector] = faces.MtcnnDetector,
    change: Callable[[Plan], Plan] = lambda plan: plan,
) -> Adapted:
    """Make a pack with a person's voice, or go on where an earlier call was interrupted.

    Args:
        request: What is wanted.
        counting: Shows how far the work is.
        dry_run: Whether to end before the training.
        device: A torch device, or `auto`.
        workers: Processes; 0 takes one per core.
        detector: Makes the face detector.
        change: Changes the settings of the training.

    Raises:
        DataError: No voice can be learned from the videos; the message says why and what is missing.
        ConfigError: Nobody declared that the person agreed.
        CheckpointError: `output` is something else, or there is no such pack.
    """
    base = find_pack(request.pack)
    if request.output.exists() and not (request.work / PLAN_NAME).exists():
        raise CheckpointError(f"{request.output} exists and was not made by adapt", "choose another -o")
    if not dry_run and read_consent(request.work) is None:
        raise missing()
    with claim(request.work, "adapt"):
        _begin(request, base)
        return _Work(request, base, counting, device, workers, detector, change).do(dry_run)


def _begin(request: Request, base: Pack) -> None:
    """Write down the settings, or check that the work was begun with the same."""
    plan = asdict(request) | {"model": base.model_digest, "source": os.fspath(request.source.resolve())}
    plan = {name: value for name, value in plan.items() if name != "output"}
    others = changes(request.work / PLAN_NAME, plan)
    if others:
        raise DataError(f"{request.output} was begun with other settings: {'; '.join(others)}", "choose another -o")
    write_plan(request.work / PLAN_NAME, plan)


class _Work:
    """The steps, each of which goes on where it was."""

    def __init__(
        self,
        request: Request,
        base: Pack,
        counting: Counting,
        device: str,
        workers: int,
        detector: Callable[[], faces.Detector],
        change: Callable[[Plan], Plan],
    ) -> None:
        self.request = request
        self.work = request.work
        self.base = base
        self.config = read_config(base.model_folder / CONFIG_NAME, ModelConfig)
        self.counting = counting
        self.device = find_device(device)
        self.workers = workers
        self.detector = detector
        self.change = change

    def do(self, dry_run: bool) -> Adapted:
        """Do all that is not done yet."""
        clips = list(read_folder(self.request.source))
        found, entries = self._look(clips)
        for line in lines(found):
            say(line)
        check(found)
        for line in warnings(found):
            warn(line)
        chosen = self._choose(clips, found, entries)
        plan, fabric = self._plan(chosen)
        if dry_run:
            return Adapted(None, found, plan.longest)
        run(plan.recipe, self.work / "chosen", self.work / "run", self.base.folder, fabric)
        reader = self._read(chosen, fabric)
        return self._finish(found, chosen, plan, reader)

    def _look(self, clips: Sequence[Clip]) -> tuple[Survey, list[Entry]]:
        """Prepare the videos, and look at them."""
        prepared, request = self.work / "prepared", self.request
        sample = SampleConfig(
            self.config.video.fps,
            self.config.audio.sample_rate,
            several=request.several,
            max_mismatch=MISMATCH,
            longest=LONGEST,
        )
        config = PrepareConfig(sample, workers=self.workers)
        with self.counting("preparing") as progress:
            made = prepare(clips, prepared, config, self.detector, lambda done, total, _: progress(done, total))
        entries = read_index(prepared)
        with self.counting("looking") as progress:
            looks = look_at(
                prepared, entries, str(self.base.folder), self.work / "look", self.device, self.workers, progress
            )
        texts = {entry.key: str(text) for entry in entries if (text := entry.meta.get("transcript"))}
        if request.transcribe:
            untold = [entry for entry in entries if entry.key not in texts]
            with self.counting("transcribing") as progress:
                texts |= write_down(prepared, untold, self.work, self.device, progress)
        rate = self.config.audio.sample_rate / self.config.audio.hop_length
        failures = reasons(read_failures(prepared))
        account = made.account.lost
        return survey(request.source, len(clips), failures, looks, texts, rate, request.person, account), entries

    def _choose(self, clips: Sequence[Clip], found: Survey, entries: Sequence[Entry]) -> list[Entry]:
        kept = {look.key for look in found.kept}
        own = [entry for entry in entries if entry.key in kept]
        splits = Counter(str(entry.meta["split"]) for entry in own)
        keep = _splits_given(self.request.source, clips) and all(splits[name] for name in SPLITS)
        speaker = self.request.output.name
        return choose_clips(self.work / "prepared", own, found.transcripts, speaker, self.work / "chosen", keep)

    def _plan(self, chosen: Sequence[Entry]) -> tuple[Plan, lightning_fabric.Fabric]:
        """Choose the settings, and say how long it will take."""
        lengths = [_seconds(entry) for entry in chosen if entry.meta["split"] == "train"]
        counts = Counter(str(entry.meta["split"]) for entry in chosen)
        cpu = self.device == "cpu"
        plan = self.change(choose_settings(lengths, counts["val"], STRETCH, cpu))
        fabric = make_fabric(self.device, 1, plan.recipe.train.precision)
        fabric.launch()
        plan = time_it(plan, self.work / "chosen", str(self.base.folder), fabric)
        say(
            f"plan: {counts['train']} clips ({minutes(sum(lengths))}) to learn from, {counts['val']} to stop in time, "
            f"{counts['test']} held out to measure; at most {plan.updates} updates of {plan.recipe.train.batch_size} "
            f"clips on {self.device}"
        )
        measuring = 2 * counts["test"] * SCORED / (self.workers or os.cpu_count() or 1)
        say(f"training takes at most {duration(plan.longest)}, measuring {duration(measuring)}; all in {self.work}")
        return plan, fabric

    def _read(self, chosen: Sequence[Entry], fabric: lightning_fabric.Fabric) -> Choice | None:
        """Adapt the recogniser if there are transcripts enough."""
        if self.base.recognizer is None:
            return None
        if not enough(chosen):
            say("too few transcripts to adapt the recogniser; the pack's is kept")
            return None
        with self.counting("generating speech") as progress:
            choice = adapt_recognizer(
                self.work / "chosen",
                self.work / "run",
                self.base.recognizer,
                self.work / "recognizer",
                fabric,
                progress,
            )
        rates = ", ".join(f"{name} {rate:.1f} %" for name, rate in choice.rates.items())
        say(f"recogniser: {choice.name} ({rates} WER on validation clips)")
        return choice

    def _finish(self, found: Survey, chosen: Sequence[Entry], plan: Plan, reader: Choice | None) -> Adapted:
        """Measure both packs on the held-out clips, and write the new one with its card."""
        output, base = self.request.output, self.base.info
        consent = read_consent(self.work)
        assert consent is not None
        parts = {"model": self.work / "run"} | ({"waveglow": self.base.waveglow} if self.base.waveglow else {})
        if self.base.recognizer:
            parts["recognizer"] = reader.folder if reader else self.base.recognizer
        familiarity = make_familiarity(find_pack(self.work / "run").load_model(self.device), self.work / "chosen")
        draft = replace(base, name=output.name, version=VERSION, scores={})
        made = write_pack(parts, self.work / "pack", draft, "", force=True, familiarity=familiarity)
        reports = self._measure(self.base, "before"), self._measure(made, "after")
        info = card.describe(output.name, VERSION, base, found, reports[1])
        counts = Counter(str(entry.meta["split"]) for entry in chosen)
        text = card.write_card(info, base, found, plan, consent, reports, reader, counts)
        write_pack(parts, output, info, text, force=True, familiarity=familiarity)
        for line in card.table(*reports):
            say(line)
        return Adapted(output, found, plan.longest, *reports)

    def _measure(self, pack: Pack, name: str) -> Summary:
        """Evaluate a pack on the held-out clips, unless that was done."""
        folder = self.work / name
        if (folder / SUMMARY_NAME).is_file():
            known = read_summary(folder)
            stated = known.facts.get("pack")
            if isinstance(stated, dict) and stated.get("model_sha256") == pack.model_digest:
                return known
        judges = (JasperRecognizer.name,) if pack.recognizer else ()
        source = Source(self.work / "chosen")
        settings = Settings(str(pack.folder), source, None, judges, METRICS, self.device)
        with self.counting(f"measuring {name}") as progress:
            return evaluate(settings, folder, self.workers, True, self.detector, progress)


def _splits_given(source: Path, clips: Sequence[Clip]) -> bool:
    """Return whether the folder itself says which clips are held out."""
    below = [clip.video.relative_to(source).parts[:-1] for clip in clips]
    return (source / SPLITS_NAME).is_file() or any(set(parts) & set(SPLITS) for parts in below)


def _seconds(entry: Entry) -> float:
    return int(str(entry.meta["frames"])) / int(str(entry.meta["fps"]))
