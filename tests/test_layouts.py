"""Small trees in the layouts of the published corpora -> the clips that their readers make of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from test_corpora import touch

from lipsound2.corpora import READERS, Clip, find_reader, read_folder
from lipsound2.corpora.layouts import LAYOUTS, recognize
from lipsound2.corpora.protocols import PROTOCOLS, find_protocol
from lipsound2.errors import DataError
from lipsound2.media import Excerpt

LRS = "Text:  I'M {NS} HERE\nConf:  4\nRef: x\n\nWORD START END ASDSCORE\nI'M 0.1 0.2 3.0\nHERE 0.2 0.5 3.0\n"
HAN = "\u4e2d\u56fd \u4eba\n"


def tree(root: Path, **contents: str) -> Path:
    """Make files with texts."""
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def voxceleb2(root: Path) -> None:
    for part, speakers in (("dev", ("id00012", "id00015")), ("test", ("id00017",))):
        for speaker in speakers:
            touch(root, f"{part}/mp4/{speaker}/21Uxsk56VDQ/00001.mp4", f"{part}/mp4/{speaker}/21Uxsk56VDQ/00002.mp4")
            touch(root, f"{part}/aac/{speaker}/21Uxsk56VDQ/00001.m4a")


def lrs2(root: Path) -> None:
    clips = {
        "train": "5535415699068794046/00001",
        "val": "5535423430009926848/00002",
        "test": "6330311066473698535/00011",
    }
    for split, clip in clips.items():
        touch(root, f"mvlrs_v1/main/{clip}.mp4")
        tree(root, **{f"mvlrs_v1/main/{clip}.txt": LRS, f"{split}.txt": f"{clip}{' NF' if split == 'test' else ''}\n"})
    touch(root, "mvlrs_v1/main/5535415699068794046/00009.mp4", "mvlrs_v1/pretrain/5535415699068794046/00021.mp4")


def lrs3(root: Path) -> None:
    for part, names in (("pretrain", ("00001",)), ("trainval", ("50001", "50002")), ("test", ("00003",))):
        for name in names:
            talk = "0Fi83BHQsMA" if part != "test" else "0akiEFwtkyA"
            touch(root, f"{part}/{talk}/{name}.mp4")
            tree(root, **{f"{part}/{talk}/{name}.txt": LRS})


def tcd_timit(root: Path) -> None:
    for speaker in ("volunteers/01M", "volunteers/08F", "lipspeakers/Lipspkr1"):
        for camera in ("straightcam", "30degcam"):
            touch(root, f"{speaker}/Clips/{camera}/sa1.mp4", f"{speaker}/Clips/{camera}/sa1.wav")
    prompt = "0 46797 She had your dark suit.\n"
    tree(root, **{"volunteers/01M/Clips/straightcam/sa1.txt": prompt})


def cmlr(root: Path) -> None:
    names = ("section_1_000.42_004.48", "section_2_001.00_003.20", "section_3_001.00_003.20")
    for speaker, name, split in zip(("s1", "s2", "s11"), names, ("train", "val", "test"), strict=True):
        touch(root, f"video/{speaker}/20170121/{name}.mp4", f"audio/{speaker}/20170121/{name}.wav")
        joint = {"train": "/", "val": "_", "test": "\\"}[split]
        row = joint.join((speaker, "20170121", name))
        tree(root, **{f"text/{speaker}/20170121/{name}.txt": HAN, f"{split}.csv": f"{row}\n"})
    touch(root, "video/s2/20170121/section_9_001.00_003.20.mp4")


def lombard_grid(root: Path) -> None:
    for name in ("s2_l_bbim3a", "s2_p_bbim3a", "s10_p_lwbs9a", "s10_p_pgii9a_WRONG_pgii8a"):
        for part, suffix in (("front", "mov"), ("side", "mov"), ("audio", "wav")):
            touch(root, f"lombardgrid/{part}/{name}.{suffix}")


def grid(root: Path) -> None:
    touch(root, "s1/bbaf2n.mpg", "s1/lwbs9a.mpg", "s2/bbaf2n.mpg", "alignments/s1/bbaf2n.align")


def avspeech(root: Path) -> None:
    touch(root, "videos/0K2cfp_S3UU.mp4", "videos/a.b.mkv")
    train = "0K2cfp_S3UU,90.0,95.5,0.5,0.4\n0K2cfp_S3UU,90.0,95.5,0.2,0.4\ngone,1,2,0.5,0.5\n0K2cfp_S3UU,9,8,0.5,0.5\n"
    tree(root, **{"avspeech_train.csv": train, "avspeech_test.csv": "a.b,0,3.2,0.1,0.9\n"})


MAKERS = {
    "grid": grid,
    "lombard-grid": lombard_grid,
    "tcd-timit": tcd_timit,
    "lrs2": lrs2,
    "lrs3": lrs3,
    "voxceleb2": voxceleb2,
    "avspeech": avspeech,
    "cmlr": cmlr,
}


def made(name: str, root: Path) -> dict[str, Clip]:
    MAKERS[name](root)
    return {clip.id: clip for clip in find_reader(name)(root)}


def test_every_layout_has_a_reader_a_tree_and_a_section():
    assert READERS.keys() - {"folder"} == LAYOUTS.keys() == MAKERS.keys()
    page = Path(__file__).parents[1] / "docs" / "data.md"
    sections = page.read_text(encoding="utf-8").split("\n## ")
    for name, layout in LAYOUTS.items():
        (section,) = (text for text in sections if text.startswith(layout.title))
        assert f"lipsound2 prepare {name} " in section, name
        assert all(f"**{what}" in section for what in ("Where", "Terms", "Size", "Layout", "Splits")), name
    assert {protocol.corpus for protocol in PROTOCOLS.values()} <= READERS.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_each_tree_is_recognized_and_other_readers_say_what_it_is(name, tmp_path, capsys):
    clips = made(name, tmp_path)
    assert len(clips) >= 2
    assert list(find_reader(name)(tmp_path)) == list(clips.values()), "the same clips in the same order"
    assert all(clip.video.is_file() and (not clip.audio or clip.audio.is_file()) for clip in clips.values())
    assert recognize(tmp_path) == name
    capsys.readouterr()
    list(read_folder(tmp_path))
    said = " ".join(capsys.readouterr().err.split())
    assert f"looks like {LAYOUTS[name].title}" in said
    assert f"lipsound2 prepare {name} {tmp_path}" in said
    for other in MAKERS:
        if other != name:
            with pytest.raises(DataError) as caught:
                list(find_reader(other)(tmp_path))
            assert LAYOUTS[other].expected[:40] in caught.value.message
            assert f"lipsound2 prepare {name} " in (caught.value.hint or ""), other


@pytest.mark.parametrize("name", MAKERS)
def test_a_tree_of_something_else_is_one_line(name, tmp_path):
    touch(tmp_path, "in/photos/one/x.jpg", "in/notes.doc", "in/.hidden/y")
    root, empty = tmp_path / "in", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        DataError, match=r"expected, found 1 folder such as photos and 1 file such as notes\.doc"
    ) as caught:
        list(find_reader(name)(root))
    assert "\n" not in caught.value.message
    with pytest.raises(DataError, match="an empty folder"):
        list(find_reader(name)(empty))
    with pytest.raises(DataError, match="no such folder"):
        list(find_reader(name)(tmp_path / "missing"))
    assert recognize(root) is None


def test_a_plain_folder_of_clips_is_taken_for_no_corpus(clips):
    assert recognize(clips) is None


def test_splits_csv_goes_before_the_published_split(tmp_path):
    clips = made("voxceleb2", tmp_path)
    chosen = next(iter(clips))
    tree(tmp_path, **{"splits.csv": f"clip,split\n{chosen},val\n"})
    again = {clip.id: clip for clip in find_reader("voxceleb2")(tmp_path)}
    assert again == clips | {chosen: replace(clips[chosen], split="val")}


def test_voxceleb2_has_its_audio_beside_and_its_sets(tmp_path):
    clips = made("voxceleb2", tmp_path)
    assert list(clips)[:2] == ["id00012/21Uxsk56VDQ/00001", "id00012/21Uxsk56VDQ/00002"]
    first, second, *_ = clips.values()
    assert first.audio == tmp_path / "dev/aac/id00012/21Uxsk56VDQ/00001.m4a"
    assert second.audio is None
    assert {clip.speaker: clip.split for clip in clips.values()} == {
        "id00012": "train",
        "id00015": "train",
        "id00017": "test",
    }
    assert {clip.transcript for clip in clips.values()} == {None}


def test_voxceleb2_without_its_two_folders(tmp_path, capsys):
    touch(tmp_path, "mp4/id00012/v/00001.mp4", "mp4/id00017/v/00001.mp4", "mp4/id00017/v/00001.wav")
    touch(tmp_path, "aac/id00012/v/00001.m4a")
    clips = list(find_reader("voxceleb2")(tmp_path))
    assert [clip.audio and clip.audio.name for clip in clips] == ["00001.m4a", "00001.wav"]
    assert "no clip is taken as a test clip" in capsys.readouterr().err
    meta = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,m ,test \n"
    tree(tmp_path, **{"vox2_meta.csv": meta})
    assert [clip.split for clip in find_reader("voxceleb2")(tmp_path)] == ["train", "test"]
    assert not capsys.readouterr().err


def test_voxceleb2_with_each_archive_unpacked_on_its_own(tmp_path):
    touch(tmp_path, "vox2_test_mp4/mp4/id00017/v/00001.mp4", "vox2_test_aac/aac/id00017/v/00001.m4a")
    touch(tmp_path, "vox2_dev_mp4/dev/mp4/id00012/v/00001.mp4", "vox2_dev_aac/dev/aac/id00012/v/00001.m4a")
    clips = {clip.id: clip for clip in find_reader("voxceleb2")(tmp_path)}
    assert {name: clip.split for name, clip in clips.items()} == {
        "id00012/v/00001": "train",
        "id00017/v/00001": "test",
    }
    assert all(clip.audio for clip in clips.values())


def test_lrs2_is_split_by_its_lists(tmp_path, capsys):
    clips = made("lrs2", tmp_path)
    assert {name: clip.split for name, clip in clips.items()} == {
        "main/5535415699068794046/00001": "train",
        "main/5535423430009926848/00002": "val",
        "main/6330311066473698535/00011": "test",
        "pretrain/5535415699068794046/00021": "train",
    }
    assert clips["main/5535415699068794046/00001"].transcript == "i'm here"
    assert "1 clips of main are in no list and left out" in " ".join(capsys.readouterr().err.split())
    assert [clip.id for clip in find_reader("lrs2")(tmp_path / "mvlrs_v1")] == list(clips)
    tree(tmp_path, **{"val.txt": "6330311066473698535/00011\n"})
    with pytest.raises(DataError, match=r"test\.txt names 6330311066473698535/00011, which val\.txt names too"):
        list(find_reader("lrs2")(tmp_path))
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.txt").unlink()
    with pytest.raises(DataError, match=r"has no train\.txt, val\.txt and test\.txt"):
        list(find_reader("lrs2")(tmp_path))


def test_lrs3_holds_out_its_test_and_whole_talks(tmp_path):
    clips = made("lrs3", tmp_path)
    assert [(name, clip.split, clip.speaker) for name, clip in clips.items()] == [
        ("pretrain/0Fi83BHQsMA/00001", "train", "0Fi83BHQsMA"),
        ("trainval/0Fi83BHQsMA/50001", "train", "0Fi83BHQsMA"),
        ("trainval/0Fi83BHQsMA/50002", "train", "0Fi83BHQsMA"),
        ("test/0akiEFwtkyA/00003", "test", "0akiEFwtkyA"),
    ]
    assert {clip.transcript for clip in clips.values()} == {"i'm here"}
    touch(tmp_path, *(f"{part}/talk{talk}/00001.mp4" for talk in range(300) for part in ("pretrain", "trainval")))
    splits = {(clip.speaker, clip.split) for clip in find_reader("lrs3")(tmp_path)}
    assert len(splits) == 302, "a talk is in one split"
    assert 2 <= Counter(split for _, split in splits)["val"] <= 15


def test_tcd_timit_takes_the_straight_camera_and_the_published_test_speakers(tmp_path):
    clips = made("tcd-timit", tmp_path)
    assert {name: clip.split for name, clip in clips.items()}.items() >= {"01M/sa1": "train", "08F/sa1": "test"}.items()
    assert set(clips) == {"01M/sa1", "08F/sa1", "Lipspkr1/sa1"}
    assert clips["01M/sa1"].transcript == "She had your dark suit."
    assert clips["01M/sa1"].audio == tmp_path / "volunteers/01M/Clips/straightcam/sa1.wav"
    assert all("straightcam" in str(clip.video) for clip in clips.values())
    assert [clip.id for clip in find_reader("tcd-timit")(tmp_path / "volunteers")] == ["01M/sa1", "08F/sa1"]
    assert [clip.id for clip in find_reader("tcd-timit")(tmp_path / "volunteers/08F")] == ["08F/sa1"]


def test_cmlr_is_split_by_its_lists_and_its_characters_are_words(tmp_path, capsys):
    clips = made("cmlr", tmp_path)
    assert [(clip.speaker, clip.split) for clip in clips.values()] == [("s1", "train"), ("s2", "val"), ("s11", "test")]
    first = clips["s1/20170121/section_1_000.42_004.48"]
    assert first.transcript == "\u4e2d\u56fd\u4eba"
    assert first.audio == tmp_path / "audio/s1/20170121/section_1_000.42_004.48.wav"
    assert "1 clips are in no list and left out" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "train.csv").write_text("s9/20170121/section_1_000.42_004.48\n")
    (tmp_path / "val.csv").unlink()
    (tmp_path / "test.csv").unlink()
    with pytest.raises(DataError, match="name none of its clips"):
        list(find_reader("cmlr")(tmp_path))


def test_lombard_grid_from_the_front_and_the_side(tmp_path):
    clips = made("lombard-grid", tmp_path)
    assert list(clips) == ["s2/l_bbim3a", "s2/p_bbim3a", "s10/p_lwbs9a", "s10/p_pgii9a_WRONG_pgii8a"]
    assert clips["s2/l_bbim3a"].transcript == "bin blue in m three again"
    assert clips["s2/l_bbim3a"].split == clips["s2/p_bbim3a"].split, "one sentence, one split"
    assert clips["s10/p_pgii9a_WRONG_pgii8a"].transcript is None
    assert clips["s2/l_bbim3a"].audio == tmp_path / "lombardgrid/audio/s2_l_bbim3a.wav"
    side = list(find_reader("lombard-grid")(tmp_path / "lombardgrid" / "side"))
    assert [clip.id for clip in side] == list(clips)
    assert {clip.video.parent.name for clip in side} == {"side"}
    assert all(clip.audio for clip in side)
    (tmp_path / "own").mkdir()
    for part in ("front", "audio"):
        (tmp_path / "lombardgrid" / part).rename(tmp_path / "own" / part)
        touch(tmp_path / "own", f"lombardgrid_{part}/lombardgrid/.keep")
        (tmp_path / "own" / part).rename(tmp_path / "own" / f"lombardgrid_{part}" / "lombardgrid" / part)
    assert [clip.id for clip in find_reader("lombard-grid")(tmp_path / "own") if clip.audio] == list(clips)


def test_segments_are_parts_of_videos_with_a_face(tmp_path, capsys):
    clips = made("avspeech", tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "1 videos of the tables are not there, such as gone" in said
    assert "1 of 4 rows are no segments and left out, such as '0K2cfp_S3UU,9,8,0.5,0.5'" in said
    assert list(clips) == [
        "a.b/0.000-3.200",
        "0K2cfp_S3UU/90.000-95.500",
        "0K2cfp_S3UU/90.000-95.500-2",
    ]
    first, second, third = clips.values()
    assert (first.excerpt, first.face, first.split) == (Excerpt(end=3.2), (0.1, 0.9), "test")
    assert (second.face, third.face) == ((0.5, 0.4), (0.2, 0.4))
    assert second.speaker == "0K2cfp_S3UU"


def test_a_table_of_ones_own_recordings(tmp_path):
    touch(tmp_path, "ann/monday.mp4", "ben.mov")
    table = "id,start,end,speaker,transcript,split"
    rows = "ann/monday,0,4.5,ann,\u4f60\u597d,train\nben,10,14,ben,,test\n"
    tree(tmp_path, **{"segments.csv": f"{table}\n{rows}"})
    clips = list(find_reader("avspeech")(tmp_path))
    assert [(clip.speaker, clip.split, clip.transcript, clip.face) for clip in clips] == [
        ("ann", "train", "\u4f60\u597d", None),
        ("ben", "test", None, None),
    ]
    tree(tmp_path, **{"segments.csv": "id,from,to\nben,1,2\n"})
    with pytest.raises(DataError, match="needs the columns id,start,end,x,y, it has id,from,to"):
        list(find_reader("avspeech")(tmp_path))
    tree(tmp_path, **{"segments.csv": "carl,1,2,.5,.5\n"})
    with pytest.raises(DataError, match="none of the 1 videos that the tables name"):
        list(find_reader("avspeech")(tmp_path))


@pytest.mark.parametrize(
    "layout",
    [
        "s1_processed/{}.mpg",
        "s1/s1/{}.mpg",
        "s1/video/mpg_vcd/{}.mpg",
        "video/s1/video/mpg_6000/{}.mpg",
        "s1/mpg_6000/{}.mpg",
    ],
)
def test_grid_as_it_is_passed_on(tmp_path, layout):
    touch(tmp_path, *(layout.format(name) for name in ("lwbs9a", "bbaf2n", "notes")))
    assert [clip.id for clip in find_reader("grid")(tmp_path)] == ["s1/bbaf2n", "s1/lwbs9a"]
    assert recognize(tmp_path) == "grid"


def test_of_two_qualities_of_grid_the_better_is_taken(tmp_path):
    touch(tmp_path, "s1/video/mpg_vcd/bbaf2n.mpg", "s1/video/mpg_6000/bbaf2n.mpg")
    (clip,) = find_reader("grid")(tmp_path)
    assert clip.video.parent.name == "mpg_6000"


def test_a_protocol_that_meets_none_of_its_speakers_is_an_error(tmp_path, capsys):
    clips = list(made("tcd-timit", tmp_path).values())
    seen = list(find_protocol("tcd-timit-unseen").assign(iter(clips)))
    assert {clip.speaker: clip.split for clip in seen}["08F"] == "test"
    assert "09F" in capsys.readouterr().err
    misread = [replace(clip, speaker="straightcam") for clip in clips]
    with pytest.raises(DataError, match="none of which is there: found straightcam") as caught:
        list(find_protocol("tcd-timit-unseen").assign(iter(misread)))
    assert "lipsound2 prepare tcd-timit FOLDER" in caught.value.hint
    with pytest.raises(DataError, match="found no clip"):
        list(find_protocol("s1").assign(iter(())))
