"""Clips with transcripts and the adapted model -> the recogniser that reads its speech with the fewest errors.

recognizer/
  run/         a training run that starts from the pack's recogniser
  mixed/       its best weights with the language model of the pack
  chosen.json  word error rates on the validation clips, in %, and which recogniser is used
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning_fabric

from lipsound2.data.shards import Entry, read_index, read_wave
from lipsound2.errors import MissingExtraError
from lipsound2.evaluation.words import normalize
from lipsound2.recognizer.base import Recognizer, transcribe_wave
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, load_recognizer
from lipsound2.recognizer.whisper import WhisperRecognizer
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.plans import read_plan
from lipsound2.text.alphabet import error_rates
from lipsound2.training.generated import generate_speech
from lipsound2.training.recipes.asr import finetune_recognizer_recipe
from lipsound2.training.run import Sources, run

ENOUGH = 12
"""Training clips with a transcript from which on a recogniser is adapted."""
CHOSEN_NAME, HEARD_NAME = "chosen.json", "transcripts.json"
EPOCHS, PATIENCE = 20, 5


@dataclass(frozen=True)
class Choice:
    """The recogniser of the new pack.

    Attributes:
        folder: Of the recogniser.
        name: `pack`, `adapted` or `mixed`.
        rates: Word error rates of each, in %.
    """

    folder: Path
    name: str
    rates: Mapping[str, float]


def enough(entries: Sequence[Entry]) -> bool:
    """Return whether there are transcripts enough to adapt a recogniser, and to measure it."""
    told = [str(entry.meta["split"]) for entry in entries if entry.meta.get("transcript")]
    return told.count("train") >= ENOUGH and told.count("val") >= 2 and "test" in told


def adapt_recognizer(
    chosen: Path,
    model: Path,
    base: Path,
    output: Path,
    fabric: lightning_fabric.Fabric,
    progress: Callable[[int, int], None],
) -> Choice:
    """Fine-tune a recogniser on generated speech, and keep whichever makes the fewest errors on validation clips.

    Args:
        chosen: The prepared clips.
        model: Run of the adapted model, which generates the speech.
        base: Folder of the pack's recogniser.
        output: Folder for the work.
        fabric: Devices and precision.
        progress: Called with the number of clips generated and the total.
    """
    device = str(fabric.device)
    generated, mixed = output / "generated", output / "mixed"
    folders = {"pack": base, "mixed": mixed, "adapted": output / "run" / "best"}  # of equals the first is taken
    done = read_plan(output / CHOSEN_NAME)
    if done.get("name") in folders:
        return Choice(folders[done["name"]], done["name"], done["rates"])
    generate_speech(chosen, model, generated, device=device, progress=progress)
    recipe = finetune_recognizer_recipe()
    train = replace(recipe.train, epochs=EPOCHS, batch_size=8, warmup=10, patience=PATIENCE, show_every=0)
    run(replace(recipe, train=train), Sources(chosen, generated), output / "run", base, fabric)
    if (base / LANGUAGE_NAME).is_file():
        with atomic_path(mixed) as temporary:
            shutil.copytree(folders["adapted"], temporary)
            shutil.copyfile(base / LANGUAGE_NAME, temporary / LANGUAGE_NAME)
    else:
        del folders["mixed"]
    clips = [entry for entry in read_index(generated) if entry.meta["split"] == "val"]
    rates = {name: round(_rate(load(folder, device), generated, clips), 2) for name, folder in folders.items()}
    best = min(rates, key=lambda name: rates[name])
    write_text(output / CHOSEN_NAME, json.dumps({"name": best, "rates": rates}) + "\n")
    return Choice(folders[best], best, rates)


def load(folder: Path, device: str) -> Recognizer:
    """Load a recogniser as `speak` does, with its language model if it has one."""
    beam = BeamConfig() if (folder / LANGUAGE_NAME).is_file() else None
    return load_recognizer(folder, device, beam)


def write_down(
    prepared: Path, entries: Sequence[Entry], output: Path, device: str, progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Transcribe clips that have no transcript with Whisper, whatever their language; what was heard before is kept.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    known = {key: str(text) for key, text in read_plan(output / HEARD_NAME).items()}
    todo = [entry for entry in entries if entry.key not in known]
    whisper = _whisper(device) if todo else None
    for number, entry in enumerate(todo, 1):
        assert whisper is not None
        heard = transcribe_wave(whisper, read_wave(prepared, entry), int(str(entry.meta["sample_rate"])))
        known[entry.key] = heard.text
        write_text(output / HEARD_NAME, json.dumps(known, ensure_ascii=False) + "\n")
        progress(number, len(todo))
    return {key: text for key, text in known.items() if text}


def _whisper(device: str) -> Recognizer:
    try:
        return WhisperRecognizer("small", device, language=None)
    except MissingExtraError as error:
        raise MissingExtraError("--transcribe needs the package faster-whisper", error.hint) from error


def _rate(reader: Recognizer, generated: Path, clips: Sequence[Entry]) -> float:
    pairs = [
        (
            normalize(str(entry.meta["transcript"])),
            normalize(transcribe_wave(reader, read_wave(generated, entry), int(str(entry.meta["sample_rate"]))).text),
        )
        for entry in clips
    ]
    return 100 * error_rates(pairs).wer
