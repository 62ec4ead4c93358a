import os
from pathlib import Path

import pytest

from lipsound2.corpora import read_folder, read_grid
from lipsound2.corpora.clip import split_by_hash
from lipsound2.corpora.grid import find_alignment, read_alignment, sentence
from lipsound2.corpora.transcripts import transcript
from lipsound2.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folder_reads_speakers_splits_and_transcripts(tmp_path):
    touch(tmp_path, "anna/train/one clip.mp4", "anna/test/two.MOV", "ben/three.mkv", ".hidden/four.mp4", "ben/five.jpg")
    (tmp_path / "ben" / "three.txt").write_text("  lay green\n by a  ")
    clips = {clip.id: clip for clip in read_folder(tmp_path)}
    assert list(clips) == ["anna/test/two", "anna/train/one clip", "ben/three"]
    assert clips["anna/test/two"].split == "test"
    assert clips["anna/train/one clip"].speaker == "anna"
    assert clips["ben/three"].transcript == "lay green by a"
    assert clips["anna/test/two"].transcript is None


def test_folder_follows_splits_csv(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "splits.csv").write_text("clip,split\na,val\nb,test\n")
    assert [clip.split for clip in read_folder(tmp_path)] == ["val", "test"]
    (tmp_path / "splits.csv").write_text("clip,split\na,dev\n")
    with pytest.raises(DataError, match="'dev'"):
        list(read_folder(tmp_path))
    (tmp_path / "splits.csv").write_text("name,part\na,val\n")
    with pytest.raises(DataError, match="columns clip and split"):
        list(read_folder(tmp_path))


def splits_of(root: Path) -> dict[str, str]:
    return {clip.id: clip.split for clip in read_folder(root)}


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbfclip,split\r\nann/x,test\r\nann/y z,val\r\n",
        b"sep=;\r\nSplit; Clip \r\n TEST ;ann/x\r\nval;ann/y z\r\n;\r\n",
        "clip\tsplit\nann/x\ttest\nann/y z\tval\n".encode("utf-16"),
        b'"clip","speaker","split"\n"ann/x.mp4","a, b","test"\n"ann\\y z.MOV","c","val"\n\n',
        b"clip,split\n./ann/x,test\nann/y z,val\nann/y z.MOV,val\n",
    ],
)
def test_splits_are_read_as_spreadsheets_write_them(tmp_path, table):
    touch(tmp_path, "ann/x.mp4", "ann/y z.MOV")
    (tmp_path / "splits.csv").write_bytes(table)
    assert splits_of(tmp_path) == {"ann/x": "test", "ann/y z": "val"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("clip,split\nann/q,test\nann/x,val\n", "names 1 clip to be held out that is not there, such as 'ann/q'"),
        ("clip,split\nann/q,train\n", "such as 'ann/q', and no other"),
        ("clip,split\nann/x,test\nann/x,train\n", "names ann/x twice"),
        ("clip,split\nann/x.mp4,test\nann/x,train\n", "names ann/x twice"),
        ("clip,split\nann/x\n", "row without clip or split"),
        ("", "needs the columns clip and split, it has none"),
    ],
)
def test_splits_that_would_train_on_test_clips_are_refused(tmp_path, table, message):
    touch(tmp_path, "ann/x.mp4")
    (tmp_path / "splits.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        splits_of(tmp_path)


def test_training_clips_that_are_gone_are_counted_only(tmp_path, capsys):
    touch(tmp_path, "ann/x.mp4")
    (tmp_path / "splits.csv").write_text("clip,split\nann/x,test\nann/q,train\nann/r,train\n")
    assert splits_of(tmp_path) == {"ann/x": "test"}
    assert "names 2 clips that are not there, such as 'ann/q'" in " ".join(capsys.readouterr().err.split())


def test_transcripts_in_any_encoding_are_read_and_guesses_are_counted(tmp_path, capsys):
    texts = {
        "a": "caf\u00e9".encode(),
        "b": b"\xef\xbb\xbf" + "caf\u00e9".encode(),
        "c": "caf\u00e9".encode("utf-16"),
        "d": "caf\u00e9".encode("latin-1"),
        "e": "caf\u00e9 \u2013".encode("cp1252"),
        "f": "two\r\nlines\r\n".encode("utf-16-le"),
        "g": b" \r\n",
    }
    for name, data in texts.items():
        touch(tmp_path, f"{name}.mp4")
        (tmp_path / f"{name}.txt").write_bytes(data)
    found = {clip.id: clip.transcript for clip in read_folder(tmp_path)}
    cafe = "caf\u00e9"
    assert found == {"a": cafe, "b": cafe, "c": cafe, "d": cafe, "e": f"{cafe} \u2013", "f": "two lines", "g": None}
    assert "2 transcripts were not UTF-8, read as Windows-1252" in " ".join(capsys.readouterr().err.split())


def test_of_the_texts_of_lrs_only_what_is_said_is_taken():
    lrs = "Text:  WHEN YOU'RE {NS} COOKING\nConf:  4\nRef: x\n\nWORD START END ASDSCORE\nWHEN 0.1 0.2 3\n"
    assert transcript(lrs) == "when you're cooking"
    assert transcript("Text me at\nnoon") == "Text me at noon"


def test_linked_folders_are_entered_and_circles_end(tmp_path):
    touch(tmp_path, "far/away/x.mp4", "root/ann/y.mp4")
    root = tmp_path / "root"
    (root / "ben").symlink_to(tmp_path / "far" / "away")
    (root / "ann" / "up").symlink_to(root)
    (root / "ann" / "z.mp4").symlink_to(tmp_path / "far" / "away" / "x.mp4")
    (root / "gone.mp4").symlink_to(tmp_path / "nothing")
    (root / "self.mp4").symlink_to(root / "self.mp4")
    assert [clip.id for clip in read_folder(root)] == ["ann/y", "ann/z", "ben/x", "gone", "self"]


def test_folders_that_cannot_be_read_are_counted(tmp_path, monkeypatch, capsys):
    touch(tmp_path, "a/x.mp4", "locked/y.mp4")
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [clip.id for clip in read_folder(tmp_path)] == ["a/x"]
    assert "1 folder below" in " ".join(capsys.readouterr().err.split())


def test_videos_that_differ_in_their_suffix_alone_keep_it(tmp_path):
    touch(tmp_path, "a.mp4", "a.mov", "b.mp4")
    (tmp_path / "splits.csv").write_text("clip,split\na,test\n")
    found = splits_of(tmp_path)
    assert found.keys() == {"a.mov", "a.mp4", "b"}
    assert found["a.mov"] == found["a.mp4"] == "test"


@pytest.mark.parametrize("reader", [read_folder, read_grid])
def test_a_folder_without_clips_is_an_error(tmp_path, reader):
    with pytest.raises(DataError, match="below"):
        list(reader(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        list(reader(tmp_path / "missing"))


def test_splits_by_hash_are_for_good_and_about_90_5_5():
    splits = [split_by_hash(f"s{i}") for i in range(5000)]
    assert splits.count("test") == pytest.approx(250, abs=50)
    assert splits.count("val") == pytest.approx(250, abs=50)
    assert [split_by_hash(name) for name in ("s1/bbaf2n", "s2/lgaq1a", "s34/swiz9n")] == ["train", "train", "train"]


def test_grid_names_spell_their_sentences():
    assert sentence("bbaf2n") == "bin blue at f two now"
    assert sentence("swwzzs") == "set white with z zero soon"
    assert sentence("pgii9a") == "place green in i nine again"
    for wrong in ("bbaf2", "xbaf2n", "bbaf0n", "bbaf2nn"):
        with pytest.raises(ValueError, match="GRID name"):
            sentence(wrong)


@pytest.mark.parametrize(
    "layout",
    [
        "s1/{}.mpg",
        "s1/video/{}.mpg",
        "s1/video/mpg_6000/{}.mpg",
        "video/s1/{}.mpg",
        "s1/{}.mkv",
    ],
)
def test_grid_layouts(tmp_path, layout):
    touch(tmp_path, *(layout.format(name) for name in ("lwbs9a", "bbaf2n", "notes")))
    clips = list(read_grid(tmp_path))
    assert [(clip.id, clip.speaker, clip.transcript) for clip in clips] == [
        ("s1/bbaf2n", "s1", "bin blue at f two now"),
        ("s1/lwbs9a", "s1", "lay white by s nine again"),
    ]


def test_grid_speakers_in_order_and_one_speaker_alone(tmp_path):
    touch(tmp_path, "s10/bbaf2n.mpg", "s2/bbaf2n.mpg", "originals/s1/bbaf2n.mpg")
    assert [clip.speaker for clip in read_grid(tmp_path)] == ["s2", "s10"]
    assert [clip.speaker for clip in read_grid(tmp_path / "s10")] == ["s10"]


def test_grid_alignment_in_seconds(tmp_path):
    path = tmp_path / "align" / "bbaf2n.align"
    path.parent.mkdir()
    path.write_text("0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 74500 sil\n")
    assert find_alignment(tmp_path, "s1/bbaf2n") == path
    assert find_alignment(tmp_path, "s1/bbaf2s") is None
    words = read_alignment(path)
    assert [word.text for word in words] == ["bin", "blue"]
    assert words[0].start == pytest.approx(0.95)
    assert words[1].end == pytest.approx(1.36)
    path.write_text("0 sil\n")
    with pytest.raises(DataError, match="not a GRID alignment"):
        read_alignment(path)


def test_the_clips_at_hand(grid):
    clips = list(read_grid(grid))
    assert len(clips) == 980
    assert sum(clip.split == "test" and clip.speaker == "s1" for clip in clips) == 50
    words = read_alignment(find_alignment(grid, "s1/bbaf2n"))
    assert " ".join(word.text for word in words) == "bin blue at f two now"
