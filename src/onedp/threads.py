"""How many threads of PyTorch a computation uses, where that matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of PyTorch inside, the former number behind it, after an error too.

    Another number rounds otherwise: with one thread episodes, and the answers that an export is checked against, do
    not depend on the cores of the machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
