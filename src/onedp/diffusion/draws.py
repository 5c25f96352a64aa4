"""Random numbers of a batch that several processes share: together they draw what one process would draw alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Rows = TypeVar("Rows", Tensor, np.ndarray)


@dataclass(frozen=True)
class Share:
    """Which rows of a joint batch belong to a process: every ``processes``-th from its ``rank`` on."""

    rank: int = 0
    processes: int = 1

    def joint(self, n: int) -> int:
        """Rows of the joint batch of which this share has ``n``."""
        return n * self.processes

    def of(self, rows: Rows) -> Rows:
        """This share of the rows (first axis) of a joint batch."""
        return rows[self.rank :: self.processes]


WHOLE = Share()


class SharedGenerator(torch.Generator):
    """A generator that all processes seed alike; each keeps its share of what ``normal`` and the others draw."""

    share: Share = WHOLE


def keyed_generator(
    seed: int, step: int, device: torch.device, position: int = 0, share: Share = WHOLE
) -> SharedGenerator:
    """A generator that depends on nothing but its arguments; mixing constants keep neighbouring steps apart."""
    generator = SharedGenerator(device)
    generator.manual_seed((seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9 + position) % 2**63)
    generator.share = share
    return generator


def normal(shape: Sequence[int], generator: torch.Generator, rows: int = 0) -> Tensor:
    """Standard normal numbers of ``shape``; axis ``rows`` is that of the batch."""
    share = _share(generator)
    joint = list(shape)
    joint[rows] = share.joint(joint[rows])
    drawn = torch.randn(joint, generator=generator, device=generator.device)
    return share.of(drawn.transpose(0, rows)).transpose(0, rows).contiguous()


def uniform(n: int, generator: torch.Generator, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers (n,) in [0, 1), one for each row of the batch."""
    share = _share(generator)
    return share.of(torch.rand(share.joint(n), generator=generator, device=generator.device, dtype=dtype))


def integers(low: int, high: int, n: int, generator: torch.Generator) -> Tensor:
    """Integers (n,) from ``low`` to ``high`` - 1, one for each row of the batch."""
    share = _share(generator)
    return share.of(torch.randint(low, high, (share.joint(n),), generator=generator, device=generator.device))


def _share(generator: torch.Generator) -> Share:
    """A plain generator draws for the whole batch."""
    return generator.share if isinstance(generator, SharedGenerator) else WHOLE
