"""Clips that a model was trained on are known by name and by sound, wherever the model goes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_model import make, tiny
from test_packs import pack, run

from lipsound2 import media
from lipsound2.audio import resample
from lipsound2.config import to_json
from lipsound2.corpora.folder import find_videos
from lipsound2.data.fingerprint import fingerprint
from lipsound2.data.shards import INDEX_NAME, read_index, to_lines
from lipsound2.errors import CheckpointError, DataError
from lipsound2.evaluation.bench import Settings
from lipsound2.evaluation.evaluate import evaluate
from lipsound2.evaluation.material import Source
from lipsound2.evaluation.selection import select
from lipsound2.evaluation.tables import read_results
from lipsound2.packs import PackInfo, find_pack, write_pack
from lipsound2.packs.history import History, Seen, history_of, read_history, write_history
from lipsound2.packs.pack import carry
from lipsound2.runtime.weights import save_weights

__all__ = ["pack", "run"]
RATE = 16_000


def test_a_fingerprint_survives_rate_loudness_and_a_codec_and_tells_clips_apart(clips, tmp_path):
    videos = find_videos(clips)
    waves = [media.read_audio(video, RATE) for video in videos]
    prints = [fingerprint(wave, RATE) for wave in waves]
    known = History(Seen(video.stem, "train", each) for video, each in zip(videos, prints, strict=True))
    assert len(set(prints)) == len(videos)
    media.write_video(videos[0], waves[0], RATE, tmp_path / "again.mp4")
    assert known.by_audio(fingerprint(media.read_audio(tmp_path / "again.mp4", RATE), RATE)) == "train"
    assert known.by_audio(fingerprint(0.3 * resample(waves[0], RATE, 22_050), 22_050)) == "train"
    rest = History(list(known.clips.values())[1:])
    assert rest.by_audio(prints[0]) is None


def test_silence_and_scraps_have_no_fingerprint():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert fingerprint(np.zeros(RATE, np.float32), RATE) == ""
    assert fingerprint(noise[: RATE // 4], RATE) == ""
    assert fingerprint(np.zeros(0, np.float32), RATE) == ""
    assert len(fingerprint(noise, RATE)) == 32
    assert History([Seen("a", "train", "")]).by_audio("") is None


def test_clips_are_known_in_more_and_in_fewer_folders():
    known = History([Seen("s1/bbaf2n", "train"), Seen("corpus/ann/x", "test"), Seen("alone", "val")])
    for name in ("s1/bbaf2n", "video/s1/bbaf2n", "s1/video/mpg_6000/bbaf2n", "GRID/s1/bbaf2n", "train/s1/bbaf2n"):
        assert known.by_name(name) == "train", name
    assert known.by_name("ann/x") == "test"
    assert known.by_name("alone") == "val"
    for name in ("s4/bbaf2n", "bbaf2n", "x", "ben/x", "other/ann/y", "ann/alone"):
        assert known.by_name(name) is None, name


def test_parts_of_a_recording_are_known_by_it_and_it_by_them():
    known = History([Seen("ann/talk#01", "train"), Seen("ann/talk#02", "val"), Seen("ben/whole", "train")])
    assert known.by_name("ann/talk#02") == "val"
    for name in ("ann/talk", "ann/talk#03", "videos/ann/talk", "ben/whole#04"):
        assert known.by_name(name) == "train", name
    assert known.by_name("ben/talk") is None


def test_what_was_ever_trained_on_stays_so(tmp_path):
    first = History([Seen("a", "train"), Seen("b", "test", "0" * 32), Seen("c", "val")])
    both = first | History([Seen("a", "test"), Seen("b", "val"), Seen("c", "test")])
    assert [both.by_name(name) for name in "abc"] == ["train", "val", "val"]
    write_history(tmp_path, both)
    assert (tmp_path / "splits.csv").read_text().splitlines()[:3] == [
        "clip,split,audio",
        "a,train,",
        f"b,val,{'0' * 32}",
    ]
    assert read_history(tmp_path).clips == both.clips
    (tmp_path / "splits.csv").write_text("clip,split,audio\na,trained,\n")
    with pytest.raises(CheckpointError, match="no table of clips"):
        read_history(tmp_path)


def as_trained(prepared: Path, run: Path) -> list[str]:
    """Let a run have a history that holds out other clips than the prepared folder; return these."""
    entries = read_index(prepared)
    out = [entry for entry in entries if entry.meta["split"] == "train"][:2]
    write_history(run, history_of([entry for entry in entries if entry not in out], [], out))
    return [str(entry.meta["id"]) for entry in out]


def test_the_split_of_the_pack_counts_not_that_of_the_data(prepared, run, tmp_path, capsys):
    held_out = as_trained(prepared, run)
    made = write_pack({"model": run}, tmp_path / "mine", PackInfo("mine", "1", "CC0-1.0", "few clips"), "# Mine\n")
    settings = Settings(str(made.folder), Source(prepared), None, (), ("length_ratio",), "cpu")
    summary = evaluate(settings, tmp_path / "report", workers=1)
    assert [result.id for result in read_results(tmp_path / "report", summary)] == held_out
    assert (summary.facts["trained_on"], summary.facts["left_out"], summary.facts["moved"]) == (0, 0, 2)
    assert "2 of 2 clips are of another split in the data: mine's own counts" in capsys.readouterr().err
    kept = replace(settings, source=replace(settings.source, split="all", include_trained=True))
    summary = evaluate(kept, tmp_path / "all", workers=1)
    trained = summary.clips - 2
    warning = f"mine was trained on {trained} of {summary.clips} clips"
    assert summary.facts["trained_on"] == trained
    assert f"warning: {warning}" in capsys.readouterr().err
    for name in ("report.html", "summary.md"):
        assert warning in (tmp_path / "all" / name).read_text()
    flagged = [result.id for result in read_results(tmp_path / "all", summary) if not result.trained]
    assert sorted(flagged) == sorted(held_out)


def test_clips_that_the_pack_was_trained_on_are_left_out_under_any_name(prepared, clips, tmp_path):
    history = history_of(read_index(prepared)[:-1], [])
    assert len(select(Source(prepared, split="all"), history).items) == 1
    for number, video in enumerate(find_videos(clips)):
        shutil.copy(video, tmp_path / f"{number}.mp4")
    selection = select(Source(tmp_path, split="all"), history)
    assert len(selection.items) == 1
    assert selection.left_out == len(history)
    everything = select(Source(tmp_path, split="all", include_trained=True), history)
    assert everything.trained == len(history)
    with pytest.raises(DataError, match="trained on all"):
        select(Source(tmp_path, split="all"), history_of(read_index(prepared), []))


def test_validation_clips_are_no_test_clips(prepared):
    entries = read_index(prepared)
    history = history_of([], entries[:1], entries[1:])
    assert len(select(Source(prepared, split="test"), history).items) == len(entries) - 1
    assert len(select(Source(prepared, split="val"), history).items) == 1


def test_a_folder_that_was_prepared_without_fingerprints_is_known_too(prepared, tmp_path):
    history = history_of(read_index(prepared), [])
    older = tmp_path / "older"
    shutil.copytree(prepared, older)
    entries = [
        replace(entry, meta={**{k: v for k, v in entry.meta.items() if k != "audio"}, "id": f"clip{number}"})
        for number, entry in enumerate(read_index(prepared))
    ]
    (older / INDEX_NAME).write_text(to_lines(entries))
    assert select(Source(older, split="all", include_trained=True), history).trained == len(entries)


def test_the_installed_pack_knows_its_clips():
    history = find_pack("grid-s1").history
    s1 = [seen for seen in history.clips.values() if seen.clip.startswith("s1/")]
    assert [sum(seen.split == split for seen in s1) for split in ("train", "val", "test")] == [850, 40, 50]
    assert all(seen.audio for seen in s1)


def test_a_run_keeps_what_its_start_has_besides_the_model(pack, run, tmp_path):
    (pack / "recognizer").mkdir()
    save_weights(pack / "recognizer" / "model.safetensors", make(tiny()).state_dict())
    (pack / "recognizer" / "config.json").write_text(to_json(tiny()))
    start = replace(find_run(pack), info=PackInfo("mine", "1", "CC0-1.0", "clips", vocoder="hifigan"))
    carry(start, run)
    found = find_pack(run)
    assert found.recognizer == run / "recognizer"
    assert found.info.vocoder == "hifigan"
    made = write_pack({"model": run}, tmp_path / "again", PackInfo("again", "1", "CC0-1.0", "clips"), "# Again\n")
    assert made.recognizer
    assert find_pack(made.folder).recognizer


def find_run(folder: Path):
    """Find a pack that was changed since its checksums were written."""
    from lipsound2.packs.pack import write_sums

    write_sums(folder)
    return find_pack(folder)
