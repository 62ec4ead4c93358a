import json

import pytest
import torch

from lipsound2.config import AudioConfig, VideoConfig
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.data.join import join
from lipsound2.data.shards import INDEX_NAME
from lipsound2.errors import DataError, StorageError


@pytest.fixture
def renamed(prepared, tmp_path):
    """The same samples under other names, as if they were another corpus."""
    folder = tmp_path / "renamed"
    folder.mkdir()
    rows = [json.loads(line) for line in (prepared / INDEX_NAME).read_text().splitlines()]
    for row in rows:
        row["key"] = f"other/{row['key']}"
        (folder / row["shard"]).write_bytes((prepared / row["shard"]).read_bytes())
    (folder / INDEX_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_joined_folders_hold_the_samples_of_both(prepared, renamed, tmp_path):
    count = join([prepared, renamed], tmp_path / "both")
    one, both = (ClipDataset(f, "train", AudioConfig(), VideoConfig()) for f in (prepared, tmp_path / "both"))
    assert len(both) == 2 * len(one)
    assert count == len((tmp_path / "both" / INDEX_NAME).read_text().splitlines())
    for i, entry in enumerate(both.entries):
        alone = next(k for k, e in enumerate(one.entries) if e.key == entry.key.removeprefix("other/"))
        assert torch.equal(both.load([Place(0, i)]).video, one.load([Place(0, alone)]).video)
        assert torch.equal(both.load([Place(0, i)]).mel, one.load([Place(0, alone)]).mel)


def test_a_sample_is_never_joined_twice(prepared, tmp_path):
    with pytest.raises(DataError, match="as does another folder"):
        join([prepared, prepared], tmp_path / "both")
    assert not any(tmp_path.iterdir())


def test_joining_overwrites_nothing(prepared, renamed, tmp_path):
    with pytest.raises(StorageError, match="exists"):
        join([prepared], renamed)
