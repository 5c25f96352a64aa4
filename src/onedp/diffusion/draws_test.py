"""Shares of a joint batch: together they draw what a plain generator draws."""

from __future__ import annotations

import pytest
import torch

from onedp.diffusion.draws import Share, integers, keyed_generator, normal, uniform

CPU = torch.device("cpu")
DRAWS = {
    "normal": lambda n, generator: normal((n, 3, 2), generator),
    "normal in columns": lambda n, generator: normal((2, n), generator, rows=1).T,
    "uniform": lambda n, generator: uniform(n, generator, torch.float64),
    "integers": lambda n, generator: integers(2, 1000, n, generator),
}


@pytest.mark.parametrize("draw", list(DRAWS))
def test_processes_share_what_one_draws_and_stay_in_step(draw):
    alone = keyed_generator(1, 2, CPU)
    shares = [keyed_generator(1, 2, CPU, share=Share(rank, 3)) for rank in range(3)]
    for _ in range(2):  # the second draw shows that all generators moved by the same amount
        joint = DRAWS[draw](12, alone)
        for rank, generator in enumerate(shares):
            assert torch.equal(DRAWS[draw](4, generator), joint[rank::3])


def test_a_plain_generator_draws_as_pytorch_does():
    mine, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    assert torch.equal(normal((4, 2), mine), torch.randn(4, 2, generator=theirs))
    assert torch.equal(normal((2, 4), mine, rows=1), torch.randn(2, 4, generator=theirs))
    assert torch.equal(uniform(4, mine), torch.rand(4, generator=theirs))
    assert torch.equal(integers(3, 9, 4, mine), torch.randint(3, 9, (4,), generator=theirs))


def test_every_argument_of_the_key_counts():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    firsts = {float(uniform(1, keyed_generator(seed, step, CPU, position))) for seed, step, position in keys}
    assert len(firsts) == len(keys)
