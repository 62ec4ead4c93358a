"""Batch normalisation without padding, over all processes of a training."""

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """Normalise channels (Ioffe & Szegedy 2015); in training the input must hold no padding.

    Statistics are shared by all processes, so that two processes train as one with twice the batch size.
    """

    def _check_input_dim(self, _: Tensor) -> None:
        """Accept any shape (examples, channels, ...)."""

    def forward(
        self, features: Float[Tensor, "examples channels *places"]
    ) -> Float[Tensor, "examples channels *places"]:
        """Normalise."""
        if not (self.training and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
            return super().forward(features)
        dims = [0, *range(2, features.ndim)]
        values = features.float()
        count = all_reduce(values.new_tensor(values.numel() / values.shape[1]))
        mean = all_reduce(values.sum(dims)) / count
        shape = [1, -1] + [1] * (features.ndim - 2)
        centred = values - mean.view(shape)
        variance = all_reduce(centred.square().sum(dims)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(features.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


def norm_inside(
    norm: nn.Module, features: Float[Tensor, "batch channels time"], places: Tensor | None
) -> Float[Tensor, "batch channels time"]:
    """Normalise sequences with statistics that exclude padding; padding becomes 0."""
    if places is None or not norm.training:
        return norm(features)
    batch, channels, time = features.shape
    flat = features.transpose(1, 2).reshape(batch * time, channels)
    normed = norm(flat[places])
    return normed.new_zeros(batch * time, channels).index_copy(0, places, normed).view(batch, time, channels).mT
