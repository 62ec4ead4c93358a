import json

import numpy as np
import pytest
from test_pipeline import pipeline

from lipsound2 import plots
from lipsound2.config import audio_16k
from lipsound2.corpora.folder import find_videos
from lipsound2.errors import DataError, StorageError
from lipsound2.inference.drawing import draw_run, draw_video, is_run

__all__ = ["pipeline"]


def png_size(path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def test_mels_share_one_scale_and_may_differ_in_length():
    figure = plots.mels(
        {"reference": np.zeros((80, 30)), "generated": np.full((80, 40), -5.0)}, audio_16k(), beside=True
    )
    images = [axis.images[0] for axis in figure.axes if axis.images]
    for image in images:
        assert image.get_clim() == pytest.approx((-5 * 8.686, 0.0), abs=0.01)
    assert [axis.get_title() for axis in figure.axes][:2] == ["reference", "generated"]


def test_mels_have_axes_in_seconds_and_hz():
    axis = plots.mels({"a": np.zeros((80, 30)), "b": np.zeros((80, 200))}, audio_16k()).axes[1]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("seconds", "Hz")
    assert axis.get_xlim() == (0.0, 2.0)  # 200 frames of 10 ms
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[:3] == ["250", "500", "1000"]
    assert list(axis.get_yticks()) == sorted(axis.get_yticks())


def test_distributions_show_every_figure():
    figure = plots.distributions({"a": [0.1, 0.2, 0.4], "b": [], "c": [0.3]}, "STOI")
    axis = figure.axes[0]
    assert [len(dots.get_offsets()) for dots in axis.collections] == [3, 0, 1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]


def test_training_curves_have_an_axis_a_figure():
    records = [{"epoch": 1, "step": 5, "score": 1.0, "error": 1.0}, {"epoch": 2, "step": 9, "error": 0.5, "STOI": 0.4}]
    axes = plots.training(records).axes
    assert [axis.get_title() for axis in axes] == ["error", "STOI"]
    assert list(axes[0].lines[0].get_ydata()) == [1.0, 0.5]
    assert list(axes[1].lines[0].get_xdata()) == [2]


def test_a_run_is_drawn(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    assert not is_run(run)
    (run / "metrics.jsonl").write_text("")
    assert is_run(run)
    with pytest.raises(DataError, match="not validated yet"):
        draw_run(run, tmp_path)
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "step": 5, "error": 1.0}) + "\n")
    (path,) = draw_run(run, tmp_path / "plots")
    assert path == tmp_path / "plots" / "run-training.png"
    assert min(png_size(path)) > 100
    with pytest.raises(StorageError, match="exists"):
        draw_run(run, tmp_path / "plots")


def test_a_video_is_drawn(pipeline, clips, tmp_path):
    video = find_videos(clips)[0]
    paths = draw_video(pipeline, video, "largest", tmp_path)
    assert [path.name for path in paths] == [f"{video.stem}-{part}.png" for part in ("mel", "alignment", "waveform")]
    assert all(min(png_size(path)) > 100 for path in paths)
