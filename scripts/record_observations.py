"""Record the states that policies visit, as the observations the package ships for distillation.

Roll-outs on seeds below 100000 (never used for evaluation); the raw state of every step and nothing else:

    python scripts/record_observations.py --policies RUN@ddim:10 --out src/onedp/shipped/pusht_observations.npz
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy import ndarray
from tqdm import tqdm

from onedp.errors import OneDPError
from onedp.evaluate.compare import Contestant
from onedp.evaluate.rollout import groups_of, run_group
from onedp.files import write_bytes
from onedp.policy import load_policy
from onedp.tasks import StepResult, Task, get_task
from onedp.tasks.pusht import PushTEnvironment


@dataclass(frozen=True)
class Options:
    """What to record."""

    policies: tuple[str, ...]
    """POLICY@SAMPLER each; they share the episodes."""
    out: Path
    episodes: int = 250
    first_seed: int = 1000
    lost_below: float | None = None
    """Keep only the episodes whose score stays below: what a student lost, and its teacher may know a way out of."""
    beside: Path | None = None
    """File of an earlier call whose episodes come first in the new one."""


@dataclass
class Recorder:
    """A Push-T environment that keeps the raw state of every step."""

    task: Task
    states: list[ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._env = PushTEnvironment(
            lambda arrays: {**self.task.features(arrays), "state": np.asarray(arrays["state"])}
        )

    def _keep(self, obs: dict[str, ndarray]) -> dict[str, ndarray]:
        self.states.append(obs.pop("state").astype(np.float32))
        return obs

    def reset(self, seed: int) -> dict[str, ndarray]:
        self.states = []
        return self._keep(self._env.reset(seed))

    def step(self, action: ndarray) -> StepResult:
        result = self._env.step(action)
        return StepResult(self._keep(result.obs), result.reward, result.success, result.done)

    def render(self, size: int) -> ndarray:
        return self._env.render(size)


def earlier(path: Path | None) -> tuple[list[ndarray], list[int]]:
    """States and lengths of the episodes in ``path``."""
    if path is None:
        return [], []
    with np.load(path) as arrays:
        return [arrays["state"]], np.diff(arrays["episode_ends"], prepend=0).tolist()


def main(options: Options) -> None:
    """Run the roll-outs and write the file."""
    if options.first_seed + options.episodes > 100_000:
        raise OneDPError("Seeds from 100000 on are for tests; record on lower ones.")
    torch.set_num_threads(1)
    contestants = [Contestant.parse(text) for text in options.policies]
    policies = [load_policy(c.policy, c.sampler) for c in contestants]
    groups = groups_of(options.first_seed, options.episodes)
    states, lengths = earlier(options.beside)
    for index, seeds in enumerate(tqdm(groups, unit="group")):
        policy = policies[index % len(policies)]
        recorders = [Recorder(get_task(policy.task)) for _ in seeds]
        rollouts = run_group(policy, get_task(policy.task), recorders, seeds)
        for recorder, rollout in zip(recorders, rollouts, strict=True):
            if options.lost_below is None or rollout.result.score < options.lost_below:
                states.append(np.stack(recorder.states))
                lengths.append(len(recorder.states))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, state=np.concatenate(states), episode_ends=np.cumsum(lengths))
    write_bytes(options.out, buffer.getvalue())
    print(f"{len(lengths)} episodes, {sum(lengths)} steps, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(tyro.cli(Options))
