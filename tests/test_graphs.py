from dataclasses import replace

import pytest
import torch
from test_model import tiny
from torch import Tensor, nn

from lipsound2.model import LipSound2
from lipsound2.runtime.graphs import MOST, Recorded, cuda_graphs, plainly

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def recorder(device: str):
    return cuda_graphs() if device == "cuda" else plainly


@pytest.mark.parametrize("device", DEVICES)
def test_a_recorded_function_gives_the_same_values_and_gradients(device):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).to(device)

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen = layer(x).tanh() * y
        return seen, seen.sum(dim=1)

    recorded = Recorded(function, lambda: list(layer.parameters()), recorder(device))
    for call in range(5):
        x = torch.randn(2, 4, device=device, requires_grad=True)
        y = torch.randn(2, 3, device=device)
        found = []
        for run in (function, lambda *inputs: recorded(*inputs, training=True)):
            layer.zero_grad()
            x.grad = None
            first, second = run(x, y)
            (first.square().sum() + call * second.sum()).backward()
            found.append([first.detach(), second.detach(), x.grad, layer.weight.grad, layer.bias.grad])
        for plain, replayed in zip(*found, strict=True):
            torch.testing.assert_close(replayed, plain, atol=1e-5, rtol=1e-5)


def test_gradients_of_several_batches_add_up():
    layer = nn.Linear(4, 3)
    recorded = Recorded(lambda x: (layer(x),), lambda: list(layer.parameters()), plainly)
    inputs = [torch.randn(2, 4) for _ in range(4)]
    for x in inputs:
        recorded(x, training=True)[0].square().sum().backward()
    found = layer.weight.grad.clone()
    layer.zero_grad()
    for x in inputs:
        layer(x).square().sum().backward()
    torch.testing.assert_close(found, layer.weight.grad)


def test_so_many_shapes_are_recorded_and_the_rest_is_called_plainly():
    calls = []

    def function(x: Tensor) -> tuple[Tensor]:
        calls.append(len(x))
        return (2 * x,)

    recorded = Recorded(function, list, plainly)
    for size in range(1, MOST + 3):
        for _ in range(3):
            assert torch.equal(recorded(torch.ones(size), training=False)[0], torch.full((size,), 2.0))
    assert len(recorded._shapes) == MOST
    assert calls.count(MOST + 2) == 3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["forced", "mixed", "free"])
def test_the_recorded_decoder_is_the_decoder(device, mode):
    config = tiny()
    config = replace(config, decoder=replace(config.decoder, dropout=0.0, prenet_dropout=0.0))
    torch.manual_seed(0)
    model = LipSound2(config).to(device).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout3d):
            module.p = 0.0
    size, lengths = config.video.size, torch.tensor([9, 6])
    recorded = Recorded(model.decoder.loop, lambda: list(model.decoder.parameters()), recorder(device))
    for _ in range(3):
        video = torch.randint(0, 255, (2, config.video.channels, 9, size, size), dtype=torch.uint8, device=device)
        target = torch.randn(2, 80, 36, device=device)
        own = torch.rand(2, 36) < 0.5
        found = []
        for run in (None, recorded):
            model.decoder.graphs, model.decoder.recorded = False, run
            model.zero_grad()
            arguments = {"forced": (target, None), "mixed": (target, own), "free": (None, None)}[mode]
            predicted = model(video, lengths, *arguments)
            predicted.after.square().mean().backward()
            gradients = [parameter.grad for parameter in model.parameters()]
            found.append([predicted.before, predicted.after, predicted.alignment, *gradients])
        for plain, replayed in zip(*found, strict=True):
            torch.testing.assert_close(replayed, plain, atol=2e-3, rtol=2e-3)


def test_dropout_of_a_recording_follows_the_seed():
    drop = nn.Dropout(0.5)
    recorded = Recorded(lambda x: (drop(x),), list, plainly)
    seen = []
    for seed in (1, 2, 1, 2):
        torch.manual_seed(seed)
        seen.append(recorded(torch.ones(64), training=True)[0])
    assert torch.equal(seen[2], seen[0])
    assert torch.equal(seen[3], seen[1])
    assert not torch.equal(seen[0], seen[1])
