import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lipsound2.config import AudioConfig, AugmentConfig, VideoConfig, audio_22k
from lipsound2.data.dataset import ClipDataset, EpochBatches, Place, choose_entries, collate
from lipsound2.data.shards import INDEX_NAME, read_index, read_member
from lipsound2.data.view import Jitter, hide, stretch, view
from lipsound2.errors import DataError

GREY = VideoConfig(size=64, channels=1, window=(40, 72, 80))
AUDIO = AudioConfig()


@pytest.fixture
def data(prepared):
    return ClipDataset(prepared, "train", AUDIO, GREY)


def test_video_and_mel_are_equally_long(data):
    example = data[Place(0, 0)]
    assert example.video.shape[0] == 1
    assert example.video.dtype == torch.uint8
    assert example.mel.shape == (80, 4 * example.video.shape[1])


def test_colour_and_grey(prepared):
    colour = ClipDataset(prepared, "train", AUDIO, VideoConfig())[Place(0, 0)]
    assert colour.video.shape[0] == 3
    assert colour.video.shape[2:] == (112, 112)


def test_augmentation_follows_seed_epoch_and_index_alone(prepared):
    def take(seed, epoch, index):
        return ClipDataset(prepared, "train", AUDIO, GREY, AugmentConfig(), seed=seed)[Place(epoch, index)]

    first, again = take(0, 1, 0), take(0, 1, 0)
    torch.testing.assert_close(first.video, again.video)
    torch.testing.assert_close(first.mel, again.mel)
    for other in (take(1, 1, 0), take(0, 2, 0)):
        assert first.video.shape != other.video.shape or not torch.equal(first.video, other.video)


def test_speed_changes_picture_and_mel_together(prepared):
    fast = AugmentConfig(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, speed=0.2)
    plain = ClipDataset(prepared, "train", AUDIO, GREY)[Place(0, 0)]
    lengths = set()
    for epoch in range(8):
        example = ClipDataset(prepared, "train", AUDIO, GREY, fast)[Place(epoch, 0)]
        assert example.mel.shape[1] == 4 * example.video.shape[1]
        lengths.add(example.video.shape[1])
        loud = example.mel.mean(dim=0)
        expected = stretch(plain.mel.mean(dim=0, keepdim=True), len(loud))[0]
        assert torch.corrcoef(torch.stack([loud, expected]))[0, 1] > 0.98
    assert len(lengths) > 3


def test_splices_join_picture_and_sound_at_the_same_place(prepared):
    only = replace(AugmentConfig(*[0.0] * 8), splice=1.0)
    plain = ClipDataset(prepared, "train", AUDIO, GREY)
    whole = {plain[Place(0, i)].key: plain[Place(0, i)] for i in range(len(plain))}
    spliced = ClipDataset(prepared, "train", AUDIO, GREY, only)
    kinds = set()
    for epoch in range(12):
        example = spliced[Place(epoch, 0)]
        frames = example.video.shape[1]
        assert example.mel.shape[1] == 4 * frames
        first, last = example.video[:, 0], example.video[:, -1]
        begins = any(torch.equal(first, clip.video[:, 0]) for clip in whole.values())
        ends = any(torch.equal(last, clip.video[:, -1]) for clip in whole.values())
        kinds.add((begins, ends))
        # Away from the joint and the edges each frame has the mel it has in its clip.
        own = whole[example.key]
        compared = 0
        for frame in (3, frames - 4):
            for f in range(3, own.video.shape[1] - 3):
                if torch.equal(own.video[:, f - 3 : f + 3], example.video[:, frame - 3 : frame + 3]):
                    mel, expected = example.mel[:, 4 * frame : 4 * frame + 2], own.mel[:, 4 * f : 4 * f + 2]
                    torch.testing.assert_close(mel, expected, atol=1e-3, rtol=1e-3)
                    compared += 1
        assert compared
    assert kinds == {(True, True), (False, False)}


def test_hidden_frames_show_the_mean_picture_for_a_short_while():
    seen = torch.randint(0, 255, (1, 250, 4, 4), dtype=torch.uint8)
    mean = seen.float().mean(dim=1).round().to(torch.uint8)
    shown = hide(seen, 1.0, 25, np.random.default_rng(0))
    hidden = (shown == mean[:, None]).flatten(2).all(dim=2)[0]
    assert torch.equal(shown[:, ~hidden], seen[:, ~hidden])
    assert 10 <= hidden.sum() <= 100
    assert torch.equal(hide(seen, 0.0, 25, np.random.default_rng(0)), seen)


def test_switched_off_augmentation_is_none(prepared):
    off = AugmentConfig(*[0.0] * 10)
    plain = ClipDataset(prepared, "train", AUDIO, GREY)[Place(0, 0)]
    augmented = ClipDataset(prepared, "train", AUDIO, GREY, off)[Place(3, 0)]
    torch.testing.assert_close(plain.video, augmented.video)
    torch.testing.assert_close(plain.mel, augmented.mel)


def test_the_cache_changes_nothing(prepared):
    cached = ClipDataset(prepared, "train", AUDIO, GREY)
    fresh = ClipDataset(prepared, "train", AUDIO, GREY, cache_gb=0.0)
    for _ in range(2):
        torch.testing.assert_close(cached[Place(0, 1)].video, fresh[Place(0, 1)].video)


def test_a_cache_filled_at_once_decodes_nothing_twice(prepared, monkeypatch):
    data = ClipDataset(prepared, "train", AUDIO, GREY)
    fresh = ClipDataset(prepared, "train", AUDIO, GREY, cache_gb=0.0)
    one = sum(tensor.nbytes for tensor in data._decode(0)) / 1e9
    partly = ClipDataset(prepared, "train", AUDIO, GREY, cache_gb=1.5 * one)
    data.fill_cache()
    partly.fill_cache()
    last = Place(0, len(data) - 1)
    expected = fresh[last].video
    torch.testing.assert_close(partly[last].video, expected)
    monkeypatch.setattr(ClipDataset, "_decode", lambda *_: pytest.fail("decoded again"))
    torch.testing.assert_close(data[last].video, expected)
    partly[Place(0, 0)]


def test_view_is_the_window():
    rows = torch.arange(160, dtype=torch.uint8)[None, None, :, None].expand(2, 1, 160, 160)
    seen = view(rows.contiguous(), replace(GREY, size=80))
    np.testing.assert_array_equal(seen[0, 0, :, 0], np.arange(72, 152))
    flipped = view(rows.transpose(2, 3).contiguous(), replace(GREY, size=80), Jitter(flip=True))
    np.testing.assert_array_equal(flipped[0, 0, 0], np.arange(40, 120)[::-1])
    moved = view(rows.contiguous(), replace(GREY, size=80), Jitter(shift=(0.0, 5.0)))
    np.testing.assert_array_equal(moved[0, 0, :, 0], np.arange(77, 157))


def test_collate_pads_and_says_where(prepared):
    data = ClipDataset(prepared, "train", AUDIO, GREY, AugmentConfig(speed=0.3))
    examples = [data[Place(0, i)] for i in range(min(3, len(data)))]
    batch = collate(examples)
    for i, example in enumerate(examples):
        length = int(batch.video_lengths[i])
        torch.testing.assert_close(batch.video[i, :, :length], example.video)
        assert not batch.video[i, :, length:].any()
        torch.testing.assert_close(batch.mel[i, :, : int(batch.mel_lengths[i])], example.mel)


def test_limits_speakers_and_splits(prepared):
    everything = ClipDataset(prepared, "train", AUDIO, GREY)
    assert len(ClipDataset(prepared, "train", AUDIO, GREY, limit=2)) == 2
    speaker = everything.entries[0].meta["speaker"]
    only = ClipDataset(prepared, "train", AUDIO, GREY, speakers=[speaker])
    assert {entry.meta["speaker"] for entry in only.entries} == {speaker}
    with pytest.raises(DataError, match="no clip"):
        ClipDataset(prepared, "train", AUDIO, GREY, speakers=["nobody"])


def test_other_rates_are_refused(prepared):
    with pytest.raises(DataError, match="prepared with sample_rate 16000, the model wants 22050"):
        ClipDataset(prepared, "train", audio_22k(), GREY)
    with pytest.raises(DataError, match="prepared with fps 25"):
        ClipDataset(prepared, "train", AUDIO, replace(GREY, fps=30))


def test_a_folder_that_was_not_prepared_and_a_damaged_shard(prepared, tmp_path):
    with pytest.raises(DataError, match=r"index\.jsonl"):
        read_index(tmp_path)
    entry = read_index(prepared)[-1]
    (tmp_path / entry.shard).write_bytes((prepared / entry.shard).read_bytes()[:700])
    with pytest.raises(DataError, match="shorter than its index"):
        read_member(tmp_path, entry, "mp4")


@pytest.mark.parametrize(("size", "batch", "world"), [(10, 3, 1), (10, 3, 2), (2, 4, 3), (7, 1, 4), (64, 8, 8)])
def test_every_process_sees_equally_many_batches_and_together_everything(size, batch, world):
    ranks = [list(EpochBatches(size, batch, True, 0, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(len(b) == batch for batches in ranks for b in batches)
    assert {place.clip for batches in ranks for b in batches for place in b} == set(range(size))


def test_a_resumed_epoch_is_exactly_the_rest():
    whole, rest = EpochBatches(50, 4, True, seed=3), EpochBatches(50, 4, True, seed=3)
    whole.epoch = rest.epoch = 5
    rest.start = 7
    assert list(whole)[7:] == list(rest)
    assert len(rest) == len(list(rest))
    rest.epoch = 6
    assert list(whole)[7:] != list(rest)


def test_a_corpus_without_validation_clips_keeps_some_of_its_training_clips_for_it(prepared, tmp_path):
    lines = [json.loads(line) for line in (prepared / INDEX_NAME).read_text().splitlines()]
    for line in lines:
        line["meta"]["split"] = "train"
    (tmp_path / INDEX_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    train, val, test = (choose_entries(tmp_path, split) for split in ("train", "val", "test"))
    assert val
    assert not test
    assert sorted(entry.key for entry in train + val) == sorted(line["key"] for line in lines)
    assert choose_entries(prepared, "train") != train
