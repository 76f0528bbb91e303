"""3×3 convolutions with a quarter of the multiplications (Lavin and Gray, CVPR 2016, Sec. 4.3).

An output of 4×4 pixels depends on 6×6 of the input d. With the matrices B, G and A of F(4×4, 3×3),

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A

takes 36 multiplications for each pair of channels, where the sum over the kernel g takes 144. The
products over all channels of an image are 36 matrix products; Bᵀ d B and Aᵀ m A are sums of whole
rows, with channels last. Rounding errors are some five times those of the direct sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEWEST_CHANNELS, _FEWEST_POSITIONS = 64, 1024
"""Below these, transforming features and kernels takes longer than what it saves."""
_TILES = 128
"""How many outputs of 4×4 pixels are computed at a time: enough for matrix products at full speed,
and few enough for the cache."""


class WinogradConv(nn.Conv2d):
    """A convolution of 3×3 with the padding of 1: by Winograd in fp32 on a CPU, without gradients.

    Otherwise, and for small features, it is the direct one: half precision is too coarse for the
    sums of the transforms.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> WinogradConv:
        """The same convolution, of the same parameters."""
        new = cls(conv.in_channels, conv.out_channels, 3, padding=1, device="meta")
        new.weight, new.bias = conv.weight, conv.bias
        return new

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W), channels last."""
        if not _gains(input):
            return super().forward(input)
        kernels = _transformed(self.weight)
        height, width = input.shape[2:]
        if height % 4 or width % 4:
            input = F.pad(input, (0, -width % 4, 0, -height % 4))
        feature = input.permute(0, 2, 3, 1).contiguous()
        found = feature.new_empty(*feature.shape[:3], self.out_channels)
        for one, result in zip(feature, found, strict=True):
            _convolved(one, kernels, self.bias, result)
        return found[:, :height, :width].permute(0, 3, 1, 2)


def winograd_bytes(channels: int) -> int:
    """Bytes that the widest convolution of a network takes beside its input and its result."""
    return 4 * channels * (36 * channels + _TILES * (36 + 36 + 24))


def use_winograd(network: nn.Module) -> None:
    """Replace the convolutions of a network that gain by it; their parameters stay the same."""
    for name, module in list(network.named_modules()):
        if (
            type(module) is nn.Conv2d
            and module.kernel_size == (3, 3)
            and module.stride == (1, 1)
            and module.padding == (1, 1)
            and module.padding_mode == "zeros"
            and module.dilation == (1, 1)
            and module.groups == 1
            and min(module.in_channels, module.out_channels) >= _FEWEST_CHANNELS
        ):
            network.set_submodule(name, WinogradConv.of(module))


def _gains(feature: Tensor) -> bool:
    """Whether Winograd computes what the direct convolution does, and faster."""
    return (
        feature.dtype == torch.float32
        and feature.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and feature.shape[2] * feature.shape[3] >= _FEWEST_POSITIONS
    )


def _transformed(kernels: Tensor) -> Tensor:
    """G g Gᵀ of (C', C, 3, 3): (36, C, C')."""
    rows = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
    g = torch.tensor(rows, dtype=torch.float64) / 24
    both = torch.kron(g, g).to(kernels.dtype)
    spread = kernels.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.matmul(both, spread).permute(1, 2, 0)


def _convolved(feature: Tensor, kernels: Tensor, bias: Tensor | None, found: Tensor) -> None:
    """Convolve (H, W, C) by transformed kernels (36, C, C') into `found`, (H, W, C').

    H and W are multiples of 4.
    """
    height, width, channels = feature.shape
    across = width // 4
    most = min(max(1, _TILES // across), height // 4)
    # Once for all strips: memory that is new to the process is slow.
    strips = feature.new_empty(4 * most + 2, width + 2, channels)
    rows = feature.new_empty(6, most, width + 2, channels)
    tiles = feature.new_empty(6, 6, most * across * channels)
    products = feature.new_empty(6, 6, most * across * kernels.shape[2])
    halves = feature.new_empty(4, 6, most, across, kernels.shape[2])
    for top in range(0, height, 4 * most):
        down = min(most, height // 4 - top // 4)
        strip = strips[: 4 * down + 2].zero_()
        begin, end = max(top - 1, 0), min(top + 4 * down + 1, height)
        strip[begin - top + 1 :][: end - begin, 1:-1] = feature[begin:end]
        row = rows[:, :down]
        _to_products([strip[k : k + 4 * down - 3 : 4] for k in range(6)], row.unbind(0))
        count = down * across
        tile = tiles[..., : count * channels].view(6, 6, down, across, channels)
        _to_products([row[:, :, k : k + width - 3 : 4] for k in range(6)], tile.unbind(1))
        product = products[..., : count * kernels.shape[2]].view(36, count, -1)
        torch.bmm(tile.view(36, count, channels), kernels, out=product)
        half = halves[:, :, :down]
        _from_products(product.view(6, 6, down, across, -1).unbind(0), half.unbind(0))
        # Pixels of each tile by row and column, where they belong in the result.
        area = found[top : top + 4 * down].view(down, 4, across, 4, -1).permute(1, 3, 0, 2, 4)
        _from_products(half.unbind(1), area.unbind(1))
        if bias is not None:
            found[top : top + 4 * down] += bias


def _to_products(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Bᵀ d along one axis: six rows from six."""
    even, odd = torch.add(d[4], d[2], alpha=-4), torch.add(d[3], d[1], alpha=-4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(torch.add(d[4], d[2], alpha=-5, out=even), d[0], alpha=4, out=out[0])
    torch.add(torch.add(d[5], d[3], alpha=-5, out=odd), d[1], alpha=4, out=out[5])


def _from_products(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Aᵀ m along one axis: four rows from six."""
    near, far = m[1] + m[2], m[3] + m[4]
    torch.add(near, far, alpha=4, out=out[2])
    torch.add(near.add_(far), m[0], out=out[0])
    torch.sub(m[1], m[2], out=near)
    torch.sub(m[3], m[4], out=far)
    torch.add(near, far, alpha=2, out=out[1])
    torch.add(near.add_(far, alpha=8), m[5], out=out[3])
