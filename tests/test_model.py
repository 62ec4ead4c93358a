import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lipsound2.config import (
    AttentionDecoderConfig,
    EncoderConfig,
    FrameDecoderConfig,
    ModelConfig,
    PostnetConfig,
    VideoConfig,
    audio_22k,
    from_dict,
    paper,
    small,
    to_json,
)
from lipsound2.errors import ConfigError
from lipsound2.inference.windows import Window, cross_fade, generate
from lipsound2.model import LipSound2
from lipsound2.model.attention import Attention, LocationAwareAttention
from lipsound2.model.memory import Decoder, Memory
from lipsound2.runtime.windows import evenly


def tiny(frames_per_step: int = 4, prenet_dim: int = 8) -> ModelConfig:
    return ModelConfig(
        video=VideoConfig(size=16, channels=1, window=(40, 72, 80)),
        encoder=EncoderConfig((4, 8), ((3, 3), (3, 3)), (2, 1), (2, 2), lstm_dim=8),
        decoder=AttentionDecoderConfig(8, 4, 5, prenet_dim, 0.5, 16, 0.1, frames_per_step),
        postnet=PostnetConfig(3, 8, 5, 0.1),
        window=30,
        overlap=10,
    )


def make(config: ModelConfig, seed: int = 0) -> LipSound2:
    torch.manual_seed(seed)
    model = LipSound2(config)
    model.set_statistics(torch.full((80,), -4.0), torch.full((80,), 2.0))
    # Batch statistics as after some training, so that evaluation differs from the identity.
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def clip(frames: int, seed: int = 1, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 1, frames, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("config", [tiny(1), tiny(2), tiny(4), tiny(4, prenet_dim=0)])
def test_shapes(config):
    predicted = make(config)(clip(10), torch.tensor([10]))
    assert predicted.after.shape == predicted.before.shape == (1, 80, 40)
    assert predicted.alignment.shape == (1, 40 // config.decoder.frames_per_step, 10)
    assert predicted.lengths.tolist() == [40]
    torch.testing.assert_close(predicted.alignment.sum(-1), torch.ones(predicted.alignment.shape[:2]))


def test_frames_that_do_not_fill_the_last_step():
    config = replace(tiny(3), window=31)
    predicted = make(config)(clip(7), torch.tensor([7]))
    assert predicted.after.shape == (1, 80, 28)
    assert predicted.alignment.shape == (1, 10, 7)


@pytest.mark.parametrize("frames_per_step", [1, 4])
def test_a_padded_batch_gives_what_each_clip_gives_alone(frames_per_step):
    model = make(tiny(frames_per_step))
    lengths = [7, 12, 3]
    alone = [model(clip(n, n), torch.tensor([n])) for n in lengths]
    padded = torch.full((3, 1, 12, 16, 16), 255, dtype=torch.uint8)
    for i, n in enumerate(lengths):
        padded[i, :, :n] = clip(n, n)[0]
    together = model(padded, torch.tensor(lengths))
    for i, n in enumerate(lengths):
        torch.testing.assert_close(together.after[i, :, : 4 * n], alone[i].after[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            together.alignment[i, : 4 * n // frames_per_step, :n], alone[i].alignment[0], atol=1e-5, rtol=1e-4
        )
        assert not together.alignment[i, :, n:].any()


def test_own_output_fed_as_truth_is_free_running():
    model = make(tiny())
    free = model(clip(9), torch.tensor([9]))
    forced = model(clip(9), torch.tensor([9]), free.before)
    torch.testing.assert_close(forced.before, free.before, atol=1e-4, rtol=1e-4)


def test_scheduled_sampling_mixes_truth_and_own_output():
    model = make(tiny())
    target = torch.randn(1, 80, 36)
    lengths = torch.tensor([9])
    free = model(clip(9), lengths).before
    forced = model(clip(9), lengths, target).before
    all_own = model(clip(9), lengths, target, torch.ones(1, 9, dtype=torch.bool)).before
    none_own = model(clip(9), lengths, target, torch.zeros(1, 9, dtype=torch.bool)).before
    torch.testing.assert_close(all_own, free)
    torch.testing.assert_close(none_own, forced)
    assert not torch.allclose(free, forced)
    half = torch.zeros(1, 9, dtype=torch.bool)
    half[:, :4] = True
    mixed = model(clip(9), lengths, target, half).before
    torch.testing.assert_close(mixed[..., :20], free[..., :20])
    assert not torch.allclose(mixed[..., 20:], free[..., 20:])


def test_decoder_steps_by_hand_equal_forward():
    model = make(tiny())
    memory = Memory(torch.randn(2, 6, 16), torch.tensor([6, 6]))
    frames, alignment = model.decoder(memory, 24)
    sought = model.decoder.attention.prepare(memory.values, memory.mask())
    state, previous = model.decoder.initial_state(sought), torch.zeros(2, 80)
    for step in range(6):
        out, state = model.decoder.step(model.decoder.prenet(previous), sought, state)
        previous = out[..., -1]
        torch.testing.assert_close(out, frames[..., 4 * step : 4 * step + 4])
        torch.testing.assert_close(state.weights, alignment[:, step])


def test_attention_against_plain_loops():
    torch.manual_seed(0)
    attention = LocationAwareAttention(5, 6, 4, 3, 3)
    query, memory = torch.randn(1, 5), torch.randn(1, 7, 6)
    previous, cumulative = torch.rand(1, 7), torch.rand(1, 7)
    mask = torch.tensor([[True] * 6 + [False]])
    context, weights = attention(query, attention.prepare(memory, mask), previous, cumulative)
    kernel = attention.location_conv.weight.detach().numpy()
    history = np.pad(np.stack([previous[0], cumulative[0]]), ((0, 0), (1, 1)))
    energies = []
    for t in range(6):
        features = np.array([(kernel[f] * history[:, t : t + 3]).sum() for f in range(3)], np.float32)
        hidden = (
            attention.query(query)[0]
            + attention.memory(memory[0, t])
            + attention.location(torch.from_numpy(features))
            + attention.bias
        )
        energies.append(attention.energy(torch.tanh(hidden)).item())
    expected = torch.tensor(energies).softmax(0)
    torch.testing.assert_close(weights[0, :6], expected, atol=1e-5, rtol=1e-4)
    assert weights[0, 6] == 0
    torch.testing.assert_close(context[0], (expected[:, None] * memory[0, :6]).sum(0), atol=1e-5, rtol=1e-4)


class ByContent(torch.nn.Module):
    """Another attention: scaled dot products (Vaswani et al. 2017)."""

    class Sought(NamedTuple):
        values: torch.Tensor
        penalty: torch.Tensor

    def __init__(self, query_dim: int, memory_dim: int) -> None:
        super().__init__()
        self.query = torch.nn.Linear(query_dim, memory_dim)

    def prepare(self, memory, mask):
        return self.Sought(memory, torch.zeros(mask.shape).masked_fill(~mask, -torch.inf))

    def forward(self, query, sought, previous, cumulative):
        energy = (sought.values @ self.query(query)[..., None])[..., 0] / sought.values.shape[-1] ** 0.5
        weights = (energy + sought.penalty).softmax(-1)
        return (weights[:, None] @ sought.values)[:, 0], weights


def test_the_decoder_takes_any_attention():
    model = make(tiny())
    model.decoder.attention = ByContent(16, 16)
    assert isinstance(model.decoder.attention, Attention)
    lengths = torch.tensor([5, 9])
    padded = torch.cat([torch.nn.functional.pad(clip(5), (0, 0, 0, 0, 0, 4), value=255), clip(9)])
    together = model(padded, lengths)
    torch.testing.assert_close(together.after[0, :, :20], model(clip(5), lengths[:1]).after[0], atol=1e-4, rtol=1e-4)
    assert together.alignment[0, :, 5:].abs().max() == 0
    model.train()(clip(6), torch.tensor([6]), torch.randn(1, 80, 24)).after.square().mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("kind", ["attention", "frame"])
def test_every_parameter_gets_a_gradient(kind):
    model = make(tiny() if kind == "attention" else synchronous()).train()
    target = torch.randn(2, 80, 24)
    predicted = model(torch.cat([clip(6, 1), clip(6, 2)]), torch.tensor([6, 6]), target)
    (predicted.before.square().mean() + predicted.after.square().mean()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_brightness_and_contrast_of_the_picture_do_not_matter():
    model = make(tiny())
    video = clip(5) // 2
    plain = model(video, torch.tensor([5])).after
    bright = model(video + 100, torch.tensor([5])).after
    torch.testing.assert_close(plain, bright, atol=1e-3, rtol=1e-3)


def test_generate_of_a_short_clip_is_one_free_run():
    model = make(tiny())
    video = clip(20)
    spoken = generate(model, iter(video[0].transpose(0, 1)), 20)
    torch.testing.assert_close(spoken.mel, model(video, torch.tensor([20])).after[0])
    assert len(spoken.windows) == 1


@pytest.mark.parametrize("frames", [1, 2, 29, 30, 31, 64, 150])
def test_generate_of_any_length_is_exactly_as_long(frames):
    spoken = generate(make(tiny()), iter(clip(frames)[0].transpose(0, 1)), frames)
    assert spoken.mel.shape == (80, 4 * frames)
    assert spoken.mel.isfinite().all()


def test_generate_holds_one_window_of_video_at_a_time():
    read = 0
    most = []

    def views():
        nonlocal read
        for frame in clip(300)[0].transpose(0, 1):
            read += 1
            yield frame

    model = make(tiny())
    inner = model.forward

    def watched(video, lengths, **more):
        most.append(read)
        return inner(video, lengths, **more)

    model.forward = watched
    generate(model, views(), 300)
    starts = evenly(300, 30, 10)
    assert most == [start + 30 for start in starts]


def test_cross_fade_of_windows_that_agree_changes_nothing():
    config = tiny()
    mel = torch.randn(80, 4 * 100)
    starts = evenly(100, 30, 10)
    windows = [Window(s, mel[:, 4 * s : 4 * s + 120], torch.zeros(30, 30)) for s in starts]
    torch.testing.assert_close(cross_fade(windows, 100, config), mel)


def test_cross_fade_moves_smoothly_between_windows_that_differ():
    config = tiny()
    starts = evenly(50, 30, 10)
    windows = [Window(s, torch.full((80, 120), float(i)), torch.zeros(30, 30)) for i, s in enumerate(starts)]
    joined = cross_fade(windows, 50, config)[0]
    assert joined[0] == 0
    assert joined[-1] == 1
    assert (joined.diff() >= 0).all()
    assert joined.diff().max() < 0.03


def test_presets_have_the_sizes_the_paper_and_the_cards_name():
    model = LipSound2(paper())
    assert model.config.decoder.frames_per_step == 1
    assert model.decoder.lstm.hidden_size == 1024
    assert len(model.postnet.convs) == 5
    assert len(model.encoder.lstms) == 2
    count = sum(p.numel() for p in LipSound2(small()).parameters())
    assert 5e6 < count < 12e6


def test_config_refuses_what_cannot_be():
    with pytest.raises(ConfigError, match="equally many"):
        EncoderConfig(channels=(4, 8))
    with pytest.raises(ConfigError, match="grey"):
        VideoConfig(channels=2)
    with pytest.raises(ConfigError, match="overlap"):
        replace(tiny(), overlap=30)
    with pytest.raises(ValueError, match="reduce the image to nothing"):
        LipSound2(replace(tiny(), video=VideoConfig(size=4, channels=1)))


def synchronous(**sizes: int) -> ModelConfig:
    return replace(tiny(), decoder=FrameDecoderConfig(**{"layers": 2, "dim": 8, "width": 5} | sizes))


def test_a_frame_synchronous_decoder_needs_no_attention():
    model = make(synchronous())
    assert isinstance(model.decoder, Decoder)
    predicted = model(clip(7), torch.tensor([7]))
    assert predicted.after.shape == (1, 80, 28)
    assert predicted.alignment is None
    spoken = generate(model, clip(50)[0].transpose(0, 1), 50)
    assert spoken.mel.shape == (80, 200)
    assert [window.alignment for window in spoken.windows] == [None] * len(spoken.windows)


def test_a_frame_synchronous_decoder_hears_no_reference_and_no_padding():
    model = make(synchronous())
    lengths = torch.tensor([5, 9])
    padded = torch.full((2, 1, 9, 16, 16), 255, dtype=torch.uint8)
    padded[0, :, :5], padded[1] = clip(5)[0], clip(9)[0]
    together = model(padded, lengths)
    torch.testing.assert_close(together.after[0, :, :20], model(clip(5), lengths[:1]).after[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(padded, lengths, torch.randn(2, 80, 36)).after, together.after)


def test_each_frame_of_a_frame_synchronous_decoder_sees_its_surroundings_only():
    decoder = make(synchronous(layers=1, width=3)).decoder
    values = torch.randn(1, 20, 16)
    changed = values.clone()
    changed[:, 10] += 1
    lengths = torch.tensor([20])
    plain, moved = (decoder(Memory(memory, lengths), 80).mel for memory in (values, changed))
    touched = (plain - moved).abs().amax(dim=(0, 1)) > 1e-6
    assert touched.nonzero().flatten().tolist() == list(range(36, 48))


def test_a_frame_synchronous_decoder_wants_whole_frames():
    with pytest.raises(ConfigError, match="whole mel frames"):
        LipSound2(replace(synchronous(), audio=audio_22k()))


@pytest.mark.parametrize("config", [tiny(), synchronous()])
def test_the_seams_put_together_are_the_model(config):
    model = make(config)
    video, lengths = torch.cat([clip(6, 1), clip(6, 2)]), torch.tensor([6, 4])
    memory = model.encode(video, lengths)
    decoded = model.decode(memory)
    whole = model(video, lengths)
    torch.testing.assert_close(model.denormalize(model.polish(decoded.mel, model.mel_lengths(lengths))), whole.after)
    torch.testing.assert_close(model.denormalize(decoded.mel), whole.before)
    assert memory.values.shape == (2, 6, 16)
    assert not memory.values[1, 4:].any()


def test_a_condition_changes_what_is_said_and_nothing_else_may_take_one():
    plain, model = make(tiny()), make(replace(tiny(), condition_dim=3))
    model.load_state_dict(plain.state_dict(), strict=False)
    lengths = torch.tensor([6])
    first, second = (model(clip(6), lengths, condition=torch.full((1, 3), value)).after for value in (0.0, 1.0))
    assert not torch.allclose(first, second)
    torch.testing.assert_close(first, plain(clip(6), lengths).after, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="condition"):
        model(clip(6), lengths)
    with pytest.raises(ValueError, match="condition"):
        plain(clip(6), lengths, condition=torch.zeros(1, 3))


def test_teacher_forcing_at_once_equals_step_by_step():
    """With its own output fed nowhere, the prenet runs on all reference frames at once."""
    model = make(tiny(2))
    target, lengths = torch.randn(1, 80, 36), torch.tensor([9])
    at_once = model(clip(9), lengths, target).before
    last = torch.zeros(1, 18, dtype=torch.bool)
    last[:, -1] = True
    torch.testing.assert_close(model(clip(9), lengths, target, last).before, at_once, atol=1e-5, rtol=1e-5)


def test_the_kind_of_decoder_is_read_from_a_file_and_old_files_mean_attention():
    old = {"attention_dim": 8, "frames_per_step": 2}
    assert from_dict({"decoder": old}, ModelConfig).decoder == AttentionDecoderConfig(8, frames_per_step=2)
    for config in (tiny(), synchronous()):
        assert from_dict(json.loads(to_json(config)), ModelConfig) == config
    with pytest.raises(ConfigError, match="unknown kind"):
        from_dict({"decoder": {"kind": "oracle"}}, ModelConfig)
    with pytest.raises(ConfigError, match="attention_dim"):
        from_dict({"decoder": {"kind": "frame", "attention_dim": 8}}, ModelConfig)
