"""The laboratory of ``two-modes``: data, training without the fuss of run folders, and evaluation of a policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from onedp.bench.two_modes import SPEC, TwoModesScore, sample_observations, sample_truth, score_chunks
from onedp.data.normalize import Normalizer, fit_normalizer
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.distances import energy_distances, sliced_wasserstein_distances
from onedp.methods.method import Method
from onedp.policy import TorchPolicy
from onedp.threads import one_thread
from onedp.train.config import LoopConfig
from onedp.train.loop import make_accelerator, result_network, run_training
from onedp.train.state import TrainState
from onedp.train.windows import WindowTensors

OBSERVATION = SPEC.observations[0].name
BATCH = 2048
EVALUATION_SEED = 1_000_000
"""Far from the seeds of data sets, so no observation is trained on."""


@dataclass(frozen=True)
class LabData:
    """Windows to train on, and the scaling that belongs to them."""

    windows: WindowTensors
    normalizer: Normalizer


def make_data(count: int, seed: int) -> LabData:
    """``count`` chunks of the exact distribution, each at an observation of its own; a twentieth is held out."""
    rng = np.random.default_rng(seed)
    obs = sample_observations(count, rng)
    chunks = sample_truth(obs, 1, rng)[:, 0]  # (count, 16, 2)
    arrays = {OBSERVATION: obs.astype(np.float32), SPEC.action.name: chunks.reshape(-1, 2).astype(np.float32)}
    normalizer = fit_normalizer(arrays, SPEC)
    heldout = count // 20
    windows = WindowTensors(
        fields={OBSERVATION: torch.from_numpy(normalizer.normalize(OBSERVATION, obs))},
        actions=torch.from_numpy(normalizer.normalize(SPEC.action.name, chunks)).flatten(0, 1),
        obs_steps=torch.arange(count)[:, None],
        action_steps=torch.arange(chunks.shape[0] * chunks.shape[1]).view(chunks.shape[:2]),
        training=torch.arange(count - heldout),
        heldout=torch.arange(count - heldout, count),
    )
    return LabData(windows, normalizer)


@dataclass(frozen=True)
class Fitted:
    """What a training gave and what it cost."""

    network: Denoiser
    wall_seconds: float
    cpu_seconds: float
    """Of this process: with one thread, what the wall-clock would be on a machine with nothing else to do."""

    @property
    def seconds(self) -> dict[str, float]:
        """Both, rounded, by name."""
        return {"wall_seconds": round(self.wall_seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}


def fit(
    method: Method,
    data: LabData,
    loop: LoopConfig,
    folder: Path,
    identity: Mapping[str, Any],
    keep: Callable[[str, int, Fitted], None],
) -> Fitted:
    """Run the one training loop to its end; ``folder`` takes metrics and checkpoint.

    ``keep``: called at the method's milestones with their names, steps and what there is by then.
    """
    wall, cpu = time.perf_counter(), time.process_time()

    def so_far(state: TrainState) -> Fitted:
        return Fitted(result_network(method, state), time.perf_counter() - wall, time.process_time() - cpu)

    def at_milestone(name: str, state: TrainState) -> None:
        keep(name, state.step, so_far(state))

    accelerator = make_accelerator(loop, folder)
    return so_far(run_training(method, data.windows, loop, folder, identity, accelerator, at_milestone=at_milestone))


@dataclass(frozen=True)
class Examination:
    """Observations that every policy of a seed is judged on."""

    obs: Float[ndarray, "n 2"]
    draws: int
    seed: int

    @classmethod
    def make(cls, observations: int, draws: int, seed: int) -> Examination:
        """Observations of ``seed``, never those of a data set."""
        return cls(sample_observations(observations, np.random.default_rng(EVALUATION_SEED + seed)), draws, seed)

    def chunks(self, policy: TorchPolicy, stream: int = 0) -> Float[ndarray, "n d t a"]:
        """The policy's chunks, physical units; another ``stream`` is other noise."""
        repeated = np.repeat(self.obs, self.draws, axis=0).astype(np.float32)[:, None]  # (n d, 1, 2)
        rng = np.random.default_rng([EVALUATION_SEED + self.seed, stream])
        parts = []
        with one_thread():
            for start in range(0, len(repeated), BATCH):
                rows = repeated[start : start + BATCH]
                noise = rng.standard_normal((len(rows), *policy.noise_shape), dtype=np.float32)
                parts.append(policy.infer({OBSERVATION: rows}, noise))
        return np.concatenate(parts).reshape(len(self.obs), self.draws, *parts[0].shape[1:])

    def numbers(self, chunks: Float[ndarray, "n d t a"], teacher: Float[ndarray, "n d t a"]) -> dict[str, Any]:
        """Scores against the truth, and distances to the teacher's chunks (task units)."""
        score: TwoModesScore = score_chunks(chunks, self.obs)
        mine, theirs = (torch.from_numpy(np.asarray(each, dtype=np.float32)).flatten(2) for each in (chunks, teacher))
        return asdict(score) | {
            "energy_distance_to_teacher": float(energy_distances(mine, theirs).mean()),
            "sliced_wasserstein_to_teacher": float(
                sliced_wasserstein_distances(mine, theirs, torch.Generator().manual_seed(0)).mean()
            ),
        }
