"""Pairs of (observation and noise, teacher's ODE solution), made once and regressed on many times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import integers
from onedp.diffusion.samplers import Sampler
from onedp.files import replaced_file
from onedp.methods.method import Batch

PAIR_BATCH = 256


@runtime_checkable
class Rows(Protocol):
    """What can be indexed like a tensor's first axis and gives tensors: pictures that are not in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, picks: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class PickedRows:
    """``rows[picks]`` without reading them."""

    rows: Rows
    picks: Tensor

    def __len__(self) -> int:
        return len(self.picks)

    def __getitem__(self, picks: Tensor) -> Tensor:
        return self.rows[self.picks[picks]]


@dataclass(frozen=True)
class PairPool:
    """Pairs on the training device; pictures are read when a pair is drawn."""

    nobs: Mapping[str, Tensor | PickedRows]
    """Normalised observations (P, To, *shape)."""
    noise: Float[Tensor, "p tp da"]
    """Input noise of the teacher's solution, and of the student."""
    target: Float[Tensor, "p tp da"]
    """The teacher's normalised chunk."""
    seconds: float
    """Wall-clock that making them took [s]; part of the distillation's cost."""

    def draw(self, n: int, generator: torch.Generator) -> tuple[Batch, Tensor, Tensor]:
        """n pairs with replacement: observations, noise, target."""
        return self.at(integers(0, len(self.noise), n, generator))

    def at(self, picks: Tensor) -> tuple[Batch, Tensor, Tensor]:
        """The pairs with these numbers, as ``draw``."""
        return Batch({name: values[picks] for name, values in self.nobs.items()}), self.noise[picks], self.target[picks]


@torch.no_grad()
def make_pairs(
    teacher: Denoiser,
    sampler: Sampler,
    nobs: Mapping[str, Tensor | Rows],
    count: int,
    noise_scale: float,
    generator: torch.Generator,
) -> PairPool:
    """Solve the teacher's ODE for ``count`` observations drawn from ``nobs`` (N, To, *shape), each with fresh noise.

    ``noise_scale``: factor on the noise that the teacher begins with and the student reads; 0 is what a OneDP-D student
    sees. Observations are drawn without replacement until all are used, then again.
    """
    start = time.perf_counter()
    available = len(next(iter(nobs.values())))
    device = generator.device
    rounds = -(-count // available)
    order = torch.cat([torch.randperm(available, generator=generator, device=device) for _ in range(rounds)])[:count]
    noise = noise_scale * torch.randn((count, *teacher.chunk_shape), generator=generator, device=device)
    chosen: dict[str, Tensor | PickedRows] = {
        name: values.to(device)[order] if isinstance(values, Tensor) else PickedRows(values, order)
        for name, values in nobs.items()
    }
    targets = []
    quiet = True if count <= PAIR_BATCH else None  # None: where there is no terminal
    for first in tqdm(range(0, count, PAIR_BATCH), desc="teacher pairs", unit="batch", disable=quiet):
        rows = torch.arange(first, min(first + PAIR_BATCH, count), device=device)
        cond = teacher.encode({name: values[rows] for name, values in chosen.items()})
        targets.append(sampler.sample(teacher, cond, noise[rows, None]))
    return PairPool(chosen, noise, torch.cat(targets), time.perf_counter() - start)


def forecast_pairs(
    make: Callable[[int, torch.Generator], PairPool], count: int, device: torch.device, clock: Callable[[], float]
) -> tuple[float, PairPool]:
    """Seconds that ``make(count, ...)`` will take, from one batch of them, and that batch; its draws are its own."""
    sample = min(count, PAIR_BATCH)
    make(min(count, 8), torch.Generator(device).manual_seed(0))  # what only the first pass costs is left out
    _finish_kernels(device)
    start = clock()
    pool = make(sample, torch.Generator(device).manual_seed(0))
    _finish_kernels(device)
    return (clock() - start) * count / sample, pool


def _finish_kernels(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def kept_pairs(
    make: Callable[[], PairPool], nobs: Mapping[str, Tensor | Rows], folder: Path, key: str, device: torch.device
) -> PairPool:
    """The pairs that an earlier start of the run (``key``) left in ``folder``, or what ``make`` makes."""
    file = folder / "pairs.safetensors"
    pool = load_pairs(file, key, device, nobs)
    if pool is None:
        pool = make()
        save_pairs(file, pool, key)
    return pool


def save_pairs(path: Path, pool: PairPool, key: str) -> None:
    """Keep the pairs beside the run, so resuming does not make them again; ``key`` says what they belong to."""
    tensors = {
        f"nobs/{name}" if isinstance(values, Tensor) else f"picks/{name}": values
        if isinstance(values, Tensor)
        else values.picks
        for name, values in pool.nobs.items()
    }
    tensors |= {"noise": pool.noise, "target": pool.target}
    with replaced_file(path) as temporary:  # cloned: several cameras share their picks, which safetensors refuses
        metadata = {"key": key, "seconds": repr(pool.seconds)}
        save_file({name: value.cpu().clone().contiguous() for name, value in tensors.items()}, temporary, metadata)


def load_pairs(
    path: Path, key: str, device: torch.device, nobs: Mapping[str, Tensor | Rows] | None = None
) -> PairPool | None:
    """Pairs saved under ``key``; None when there are none, or of something else (they are then made again).

    ``nobs`` has the pictures, which are not saved with the pairs.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError):
        return None
    found: dict[str, Tensor | PickedRows] = {
        name.removeprefix("nobs/"): value for name, value in tensors.items() if name.startswith("nobs/")
    }
    for name, picks in tensors.items():
        if name.startswith("picks/"):
            rows = (nobs or {}).get(name.removeprefix("picks/"))
            if rows is None:
                return None
            found[name.removeprefix("picks/")] = PickedRows(rows, picks)
    return PairPool(found, tensors["noise"], tensors["target"], float(metadata["seconds"]))
