"""1-D convolutions as matrix products where that is faster on a CPU; same keys, same numbers up to rounding.

The cause of the waste, from the profiler (PyTorch 2.13, one thread of an AMD EPYC with AVX2): at batch 1 ``Conv1d``
is ``aten::_slow_conv2d_forward``, a product of the weights (C_out, taps C_in) and columns (taps C_in, T) stored row by
row. For 4 steps and 2048 channels that takes 36 ms, 7 times what reading the weights takes. The same product with the
columns stored step by step, (T, taps C_in) seen transposed, takes 10 ms. No weight is copied for it: ``weight`` is
(C_out, C_in, taps), one row for each output already. ``ConvTranspose1d`` of 1024 channels goes from 59 to 4 ms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEW_ROWS = 12
"""Steps times batch up to which the product is faster: 3.6, 2.2 and 1.0 times with 4, 8 and 16 rows."""
FEW_STEPS = 4
"""Steps up to which large batches may gain too, most in the backward pass (``benchmarks/eager_convolutions.py``): with
AVX2 a training step of the shipped U-Net 1.12 times. With AVX-512, where oneDNN's kernels are better, that of the
(256, 512, 1024) one 1.5 times (1.8 in bf16), while the shipped one would lose 15 % in float32."""
VERY_MANY_WEIGHTS = 1_000_000
"""Of a layer that gains with AVX-512 in float32 too."""
MANY_WEIGHTS = 100_000
"""Smaller layers are bound by the number of calls, of which the product needs more."""


class Conv1d(nn.Conv1d):
    """``nn.Conv1d`` (zero padding, one group, no dilation): ``(B, C_in, T) -> (B, C_out, T')``."""

    def forward(self, x: Tensor) -> Tensor:
        taps, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        steps = (x.shape[2] + 2 * padding - taps) // stride + 1
        few_rows = _has_few_rows(x, steps)
        if not (_is_large(x, self.weight) and (few_rows or (steps <= FEW_STEPS and _batches_gain(self.weight)))):
            return super().forward(x)
        if padding:
            x = nn.functional.pad(x, (padding, padding))
        rows = x.unfold(2, taps, stride).transpose(1, 2).reshape(-1, self.in_channels * taps)  # (B T', C_in taps)
        weight = self.weight.flatten(1)
        if not few_rows:
            return nn.functional.linear(rows, weight, self.bias).unflatten(0, (-1, steps)).transpose(1, 2)
        out = weight @ rows.T if self.bias is None else torch.addmm(self.bias[:, None], weight, rows.T)
        return out.unflatten(1, (-1, steps)).transpose(0, 1)  # (B, C_out, T')


class ConvTranspose1d(nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` (one group, no dilation, no output padding): ``(B, C_in, T) -> (B, C_out, T')``."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not (_is_large(x, self.weight) and _has_few_rows(x, x.shape[2])):
            return super().forward(x, output_size)
        parts = x.transpose(1, 2) @ self.weight.flatten(1)  # (B, T, C_out taps)
        parts = parts.unflatten(2, (self.out_channels, -1)).transpose(2, 3)
        out = overlap_add(parts, self.stride[0], int(self.padding[0]))
        out = out.transpose(1, 2)  # (B, C_out, T')
        return out if self.bias is None else out + self.bias[:, None]


def _is_large(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and weight.numel() >= MANY_WEIGHTS


def _batches_gain(weight: Tensor) -> bool:
    few_vectors = torch.backends.cpu.get_cpu_capability() != "AVX512"
    return few_vectors or torch.is_autocast_enabled("cpu") or weight.numel() >= VERY_MANY_WEIGHTS


def _has_few_rows(x: Tensor, steps: int) -> bool:
    return x.shape[0] * steps <= FEW_ROWS


def overlap_add(parts: Tensor, stride: int, padding: int) -> Tensor:
    """Sum ``parts`` (B, T, taps, C), each laid ``stride`` after the one before, and cut ``padding`` off both ends.

    Gives (B, T', C). Taps are taken ``stride`` at a time: such blocks do not overlap, so a few shifted sums do it.
    """
    taps = parts.shape[2]
    count = -(-taps // stride)
    if count * stride > taps:
        parts = nn.functional.pad(parts, (0, 0, 0, count * stride - taps))
    blocks = parts.unflatten(2, (count, stride))  # (B, T, count, stride, C)
    shifted = [nn.functional.pad(blocks[:, :, i], (0, 0, 0, 0, i, count - 1 - i)) for i in range(count)]
    out = sum(shifted[1:], shifted[0]).flatten(1, 2)  # (B, (T + count - 1) stride, C)
    return out[:, padding : out.shape[1] - padding - (count * stride - taps)]
