import json
import pickle
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from lipsound2.config import AudioConfig, AugmentConfig, VideoConfig, audio_22k
from lipsound2.data.augment import Change, Jitter, Stretch, draw_hidden, stack, vary
from lipsound2.data.cache import ClipCache
from lipsound2.data.dataset import ClipDataset, EpochBatches, Place, choose_entries
from lipsound2.data.shards import INDEX_NAME, read_index, read_member
from lipsound2.errors import DataError
from lipsound2.model.preprocess import view

GREY = VideoConfig(size=64, channels=1, window=(40, 72, 80))
AUDIO = AudioConfig()


@pytest.fixture
def data(prepared):
    return ClipDataset(prepared, "train", AUDIO, GREY)


class Example(NamedTuple):
    key: str
    video: torch.Tensor
    mel: torch.Tensor


def example_of(data, place):
    batch = data.load([place])
    return Example(batch.keys[0], batch.video[0], batch.mel[0])


def test_video_and_mel_are_equally_long(data):
    example = example_of(data, Place(0, 0))
    assert example.video.shape[0] == 1
    assert example.video.dtype == torch.uint8
    assert example.mel.shape == (80, 4 * example.video.shape[1])


def test_examples_have_numbers_and_a_plain_loader_stacks_them(prepared):
    data = ClipDataset(prepared)
    assert data[0].key == data[Place(0, 0)].key == data[-len(data)].key
    assert len(list(data)) == len(data)
    with pytest.raises(IndexError):
        data[len(data)]
    seen = []
    for stacked in DataLoader(data, batch_size=2):
        batch = data.vary(stacked)
        seen += batch.keys
        expected = data.load(range(len(seen) - len(batch.keys), len(seen)))
        torch.testing.assert_close(batch.video, expected.video)
        torch.testing.assert_close(batch.mel, expected.mel)
    assert seen == [entry.key for entry in data.entries]


def test_colour_and_grey(prepared):
    colour = example_of(ClipDataset(prepared, "train", AUDIO, VideoConfig()), Place(0, 0))
    assert colour.video.shape[0] == 3
    assert colour.video.shape[2:] == (112, 112)


def test_augmentation_follows_seed_epoch_and_index_alone(prepared):
    def take(seed, epoch, index):
        return example_of(ClipDataset(prepared, "train", AUDIO, GREY, AugmentConfig(), seed=seed), Place(epoch, index))

    first, again = take(0, 1, 0), take(0, 1, 0)
    torch.testing.assert_close(first.video, again.video)
    torch.testing.assert_close(first.mel, again.mel)
    for other in (take(1, 1, 0), take(0, 2, 0)):
        assert first.video.shape != other.video.shape or not torch.equal(first.video, other.video)


def test_speed_changes_picture_and_mel_together(prepared):
    fast = AugmentConfig(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, speed=0.2)
    plain = example_of(ClipDataset(prepared, "train", AUDIO, GREY), Place(0, 0))
    lengths = set()
    for epoch in range(8):
        example = example_of(ClipDataset(prepared, "train", AUDIO, GREY, fast), Place(epoch, 0))
        assert example.mel.shape[1] == 4 * example.video.shape[1]
        lengths.add(example.video.shape[1])
        loud = example.mel.mean(dim=0)
        expected = interpolate(plain.mel.mean(dim=0)[None, None], len(loud), mode="linear")[0, 0]
        assert torch.corrcoef(torch.stack([loud, expected]))[0, 1] > 0.98
    assert len(lengths) > 3


def test_splices_join_picture_and_sound_at_the_same_place(prepared):
    only = replace(AugmentConfig(*[0.0] * 8), splice=1.0)
    plain = ClipDataset(prepared, "train", AUDIO, GREY)
    whole = {example_of(plain, Place(0, i)).key: example_of(plain, Place(0, i)) for i in range(len(plain))}
    spliced = ClipDataset(prepared, "train", AUDIO, GREY, only)
    kinds = set()
    for epoch in range(12):
        example = example_of(spliced, Place(epoch, 0))
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
    crops = torch.randint(0, 255, (250, 1, 160, 160), dtype=torch.uint8)
    wave = torch.zeros(160_000)
    spans = draw_hidden(250, 1.0, 25, np.random.default_rng(0))
    assert draw_hidden(250, 0.0, 25, np.random.default_rng(0)) == ()
    batch = [Stretch("a", crops, wave, Change(Jitter(), 250, s)) for s in ((), spans)]
    video = vary(stack(batch), GREY, AUDIO, torch.device("cpu")).video
    seen, shown = video
    mean = seen.float().mean(dim=1)
    hidden = ((shown.float() - mean[:, None]).abs() <= 1).flatten(2).all(dim=2)[0]
    assert torch.equal(shown[:, ~hidden], seen[:, ~hidden])
    assert 10 <= hidden.sum() <= 100
    assert hidden.nonzero()[:, 0].tolist() == sorted({f for a, b in spans for f in range(a, min(b, 250))})


def test_switched_off_augmentation_is_none(prepared):
    off = AugmentConfig(*[0.0] * 10)
    plain = example_of(ClipDataset(prepared, "train", AUDIO, GREY), Place(0, 0))
    augmented = example_of(ClipDataset(prepared, "train", AUDIO, GREY, off), Place(3, 0))
    torch.testing.assert_close(plain.video, augmented.video)
    torch.testing.assert_close(plain.mel, augmented.mel)


def test_the_cache_changes_nothing(prepared):
    cached = ClipDataset(prepared, "train", AUDIO, GREY)
    fresh = ClipDataset(prepared, "train", AUDIO, GREY, cache_gb=0.0)
    for _ in range(2):
        torch.testing.assert_close(example_of(cached, Place(0, 1)).video, example_of(fresh, Place(0, 1)).video)


def test_a_cache_filled_at_once_decodes_nothing_twice(prepared, monkeypatch):
    data = ClipDataset(prepared, "train", AUDIO, GREY)
    fresh = ClipDataset(prepared, "train", AUDIO, GREY, cache_gb=0.0)
    one = sum(tensor.nbytes for tensor in data._decode(0)) / 1e9
    partly = ClipDataset(prepared, "train", AUDIO, GREY, cache_gb=1.5 * one)
    data.fill_cache()
    partly.fill_cache()
    last = Place(0, len(data) - 1)
    expected = example_of(fresh, last).video
    torch.testing.assert_close(example_of(partly, last).video, expected)
    monkeypatch.setattr(ClipDataset, "_decode", lambda *_: pytest.fail("decoded again"))
    torch.testing.assert_close(example_of(data, last).video, expected)
    example_of(partly, Place(0, 0))


def test_view_is_the_window():
    rows = torch.arange(160, dtype=torch.uint8)[None, None, :, None].expand(2, 1, 160, 160)
    seen = view(rows.contiguous(), replace(GREY, size=80))
    np.testing.assert_array_equal(seen[0, 0, :, 0], np.arange(72, 152))


def test_a_change_moves_and_turns_the_window():
    def seen(crops, **change):
        clip = Stretch("a", crops, torch.zeros(1280), Change(Jitter(**change), 2))
        return vary(stack([clip]), replace(GREY, size=80), AUDIO, torch.device("cpu")).video[0]

    rows = torch.arange(160, dtype=torch.uint8)[None, None, :, None].expand(2, 1, 160, 160).contiguous()
    columns = rows.transpose(2, 3).contiguous()
    np.testing.assert_array_equal(seen(columns, flip=True)[0, 0, 0], np.arange(40, 120)[::-1])
    np.testing.assert_array_equal(seen(rows, shift=(0.0, 5.0))[0, 0, :, 0], np.arange(77, 157))
    brighter = seen(rows, brightness=7.0)[0, 0, :, 0].float() - seen(rows)[0, 0, :, 0].float()
    np.testing.assert_array_equal(brighter, 7.0)
    erased = seen(rows, erased=(0.0, 0.0, 0.5, 0.25))[0, 0]
    assert len(erased[:20, :40].unique()) == 1
    assert torch.equal(erased[20:], seen(rows)[0, 0, 20:])


def test_only_what_a_change_can_show_is_kept(prepared):
    config = AugmentConfig()
    data = ClipDataset(prepared, "train", AUDIO, GREY, config)
    whole = ClipDataset(prepared, "train", AUDIO, GREY, config)
    whole.box = (0, 0, 160, 160)
    for epoch in range(6):
        kept, all_of_it = (example_of(one, Place(epoch, 0)).video.int() for one in (data, whole))
        assert (kept - all_of_it).abs().max() <= 1
    assert data._decode(0).crops.nbytes < 0.6 * whole._decode(0).crops.nbytes


def test_stretches_of_long_clips(prepared):
    whole = ClipDataset(prepared, "train", AUDIO, GREY)
    still = AugmentConfig(*[0.0] * 10)
    cut = ClipDataset(prepared, "train", AUDIO, GREY, still, seconds=0.4)
    assert len(cut) == sum(max(1, round(frames / 10)) for frames in whole.lengths) > len(whole)
    assert max(cut.lengths) == 10
    seen = set()
    for epoch in range(6):
        example = example_of(cut, Place(epoch, 1))
        source = next(example_of(whole, Place(0, i)) for i in range(len(whole)) if whole.entries[i].key == example.key)
        starts = [
            s for s in range(source.video.shape[1] - 9) if torch.equal(source.video[:, s : s + 10], example.video)
        ]
        assert len(starts) == 1
        seen |= set(starts)
        inner = slice(4 * starts[0] + 4, 4 * starts[0] + 36)
        torch.testing.assert_close(example.mel[:, 4:36], source.mel[:, inner], atol=1e-3, rtol=1e-3)
    assert len(seen) > 2


def test_sound_that_is_known_to_be_late_is_taken_from_later(prepared):
    data = ClipDataset(prepared, "train", AUDIO, GREY, AugmentConfig(*[0.0] * 10))
    plain = example_of(data, Place(0, 0))
    for lag in (3, -3):
        data.lags = {plain.key: lag}
        moved = example_of(data, Place(0, 0))
        torch.testing.assert_close(moved.mel[:, 10:-10], torch.roll(plain.mel, -lag, 1)[:, 10:-10])
        torch.testing.assert_close(moved.video, plain.video)
    torch.testing.assert_close(example_of(data.plain(), Place(0, 0)).mel, plain.mel)


def test_batches_hold_examples_of_about_one_length():
    lengths = [10 + i % 90 for i in range(400)]
    plain, sorted_ = (EpochBatches(400, 8, True, lengths=known) for known in ([], lengths))
    assert sorted(p.clip for batch in sorted_ for p in batch) == list(range(400))
    waste = [sum(max(lengths[p.clip] for p in batch) * 8 for batch in batches) for batches in (plain, sorted_)]
    assert waste[1] < 0.7 * waste[0]
    assert list(sorted_) == list(EpochBatches(400, 8, True, lengths=lengths))
    assert list(EpochBatches(400, 8, True, lengths=[75] * 400)) == list(plain)


def test_batches_go_on_through_the_epochs():
    one = EpochBatches(50, 4, True, accumulate=2)
    assert one.batches == 14
    one.epochs = 3
    every = list(one)
    assert len(every) == len(one) == 42
    one.epoch, one.start = 1, 3
    assert list(one) == every[17:]


def test_collate_pads_and_says_where(prepared):
    data = ClipDataset(prepared, "train", AUDIO, GREY, AugmentConfig(speed=0.3))
    places = [Place(0, i) for i in range(min(3, len(data)))]
    examples = [example_of(data, place) for place in places]
    batch = data.load(places)
    for i, example in enumerate(examples):
        length = int(batch.video_lengths[i])
        # A batch may round a half of a grey level otherwise than one clip does.
        torch.testing.assert_close(batch.video[i, :, :length].int(), example.video.int(), atol=1, rtol=0)
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


def test_a_cache_that_is_sent_to_another_process_begins_empty():
    cache = ClipCache(1e-6)
    (clip,) = cache.get(0, lambda _: (torch.zeros(1000, dtype=torch.uint8),))
    sent = pickle.loads(pickle.dumps(cache))
    assert (len(cache), len(sent)) == (1, 0)
    assert sent.get(1, lambda _: (clip,))[0] is sent.get(1, lambda _: (clip + 1,))[0], "it has its room"
