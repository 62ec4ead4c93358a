import json
from datetime import timedelta
from io import StringIO
from itertools import pairwise

import pytest
import srt
import webvtt

from lipsound2.text.alphabet import Transcript, Word
from lipsound2.text.language import long_code
from lipsound2.text.subtitles import cues, to_json, to_srt, to_text, to_vtt

LONG = Transcript(
    (
        *(Word(f"word{i}", 0.5 * i, 0.5 * i + 0.4, 0.9) for i in range(40)),
        Word("a<b>&c", 3700.25, 3701.0, 0.5),
        Word("-->", 3701.0, 3701.5, 0.25),
    )
)
CHINESE = Transcript(
    tuple(Word(letter, 0.2 * i, 0.2 * i + 0.2, 1.0) for i, letter in enumerate("你好吗" * 30)), None, ""
)


@pytest.mark.parametrize("transcript", [LONG, CHINESE, Transcript()])
def test_srt_is_what_another_parser_reads(transcript):
    found = list(srt.parse(to_srt(transcript), ignore_errors=False))
    wanted = cues(transcript)
    assert [cue.index for cue in found] == list(range(1, len(wanted) + 1))
    assert [(cue.start, cue.end) for cue in found] == [
        (timedelta(milliseconds=cue.start), timedelta(milliseconds=cue.end)) for cue in wanted
    ]
    said = "".join("".join(cue.content.split()) for cue in found)
    assert said == transcript.text.replace(" ", "").replace("-->", "->")


@pytest.mark.parametrize("transcript", [LONG, CHINESE, Transcript()])
def test_vtt_is_what_another_parser_reads(transcript):
    found = webvtt.from_buffer(StringIO(to_vtt(transcript)))
    wanted = cues(transcript)
    assert [(stamp(cue.start), stamp(cue.end)) for cue in found] == [(cue.start, cue.end) for cue in wanted]
    said = "".join("".join(cue.raw_text.split()) for cue in found)
    assert said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == transcript.text.replace(" ", "")


def stamp(text: str) -> int:
    """Read hh:mm:ss.mmm as milliseconds."""
    hours, minutes, seconds = text.split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def test_cues_can_be_read_and_do_not_overlap():
    for transcript in (LONG, CHINESE):
        found = cues(transcript)
        assert sum(len(cue.words) for cue in found) == len(transcript.words)
        assert all(cue.end - cue.start <= 7000 and len(cue.text) <= 2 * 42 for cue in found)
        assert all(a.end <= b.start for a, b in pairwise(found))
        lines = [line for line in to_srt(transcript).splitlines() if line and not line[0].isdigit()]
        assert max(map(len, lines)) <= 42
    assert cues(LONG)[-1].start == 3_700_250, "a pause ends a cue"


def test_json_holds_words_with_times_and_confidences():
    data = json.loads(to_json(LONG))
    words = [word for segment in data["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == [word.text for word in LONG.words]
    assert words[-1] == {"word": "-->", "start": 3701.0, "end": 3701.5, "probability": 0.25}
    assert data["text"] == LONG.text
    assert json.loads(to_json(Transcript(note="silence")))["note"] == "silence"


def test_text_is_one_line():
    assert to_text(CHINESE) == "你好吗" * 30 + "\n"
    assert to_text(Transcript()) == "\n"


CUT = Transcript(
    (
        Word("bin", 1.0, 1.4, 0.9, stretch=0),
        Word("blue", 1.4, 2.0, 0.9, stretch=0),
        Word("at", 2.0, 2.3, 0.9, stretch=1),
    ),
    language="en",
)
TWO = Transcript(
    (
        Word("bin", 1.0, 1.5, 0.9, 0, "Face 1"),
        Word("blue", 1.5, 3.0, 0.9, 0, "Face 1"),
        Word("<set>", 2.0, 4.0, 0.9, 1, "Face 2"),
        Word("now", 8.0, 9.0, 0.9, 2, "Face 1"),
    )
)


def test_a_cue_ends_where_its_stretch_ends():
    assert [(cue.text, cue.start, cue.end) for cue in cues(CUT)] == [("bin blue", 1000, 2000), ("at", 2000, 2300)]
    assert to_text(CUT) == "bin blue at\n"


def test_the_header_of_vtt_tells_language_and_origin():
    text = to_vtt(CUT, ("a note",), "reconstructed --> from\nlips")
    assert text.startswith("WEBVTT reconstructed -> from lips\nLanguage: en\n\nNOTE a note\n\n")
    assert [cue.text for cue in webvtt.from_buffer(StringIO(text))] == ["bin blue", "at"]
    assert json.loads(to_json(CUT))["language"] == "en"


def test_every_speaker_is_named_and_only_formats_that_can_show_cues_at_once_overlap_them():
    found = list(srt.parse(to_srt(TWO), ignore_errors=False))
    assert [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in found] == [
        (1.0, 2.0, "Face 1: bin blue"),
        (2.0, 3.0, "Face 1: bin blue\nFace 2: <set>"),
        (3.0, 4.0, "Face 2: <set>"),
        (8.0, 9.0, "Face 1: now"),
    ]
    spoken = webvtt.from_buffer(StringIO(to_vtt(TWO)))
    assert [(cue.voice, cue.start_in_seconds, cue.end_in_seconds) for cue in spoken] == [
        ("Face 1", 1, 3),
        ("Face 2", 2, 4),
        ("Face 1", 8, 9),
    ]
    assert to_text(TWO) == "Face 1: bin blue\nFace 2: <set>\nFace 1: now\n"
    assert [segment["speaker"] for segment in json.loads(to_json(TWO))["segments"]] == ["Face 1", "Face 2", "Face 1"]


@pytest.mark.parametrize(("given", "long"), [("en", "eng"), ("zh", "zho"), ("deu", "deu"), ("", "und"), ("x", "und")])
def test_containers_are_told_languages_in_three_letters(given, long):
    assert long_code(given) == long
