"""Does a student beat its teacher where the demonstrations began? results/training-starts.json.

    python scripts/training_starts.py --demonstrations pusht_cchi_v7_replay.zarr.zip

Push-T from the first state of every human demonstration, which the teacher was trained on and the student never saw
(it was distilled on roll-outs of the teacher). Several draws of noise a start; intervals are over starts.

With ``--step`` from a later state of every recorded episode: who finds a way on from where a student was lost?
results/lost-recovery.json (scripts/measure_lost_states.sh).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy import ndarray
from tqdm import tqdm

from onedp.data.config import ReadingConfig
from onedp.data.readers import open_recording
from onedp.errors import OneDPError
from onedp.evaluate.compare import Contestant
from onedp.evaluate.results import BOOTSTRAP_SEED
from onedp.evaluate.rollout import groups_of, run_group
from onedp.evaluate.runner import hardware
from onedp.evaluate.statistics import bootstrap_mean, paired_mean_difference
from onedp.files import write_json
from onedp.machine import command_line
from onedp.policy import load_policy
from onedp.tasks import Task, get_task
from onedp.tasks.pusht import PushTEnvironment

FIRST_SEED = 300_000
"""Of the noise; the start is the demonstration with the number ``(seed - FIRST_SEED) // draws``."""


@dataclass(frozen=True)
class Options:
    """Who starts, and from what."""

    demonstrations: Path
    """Push-T's zarr with the raw ``state`` of every step."""
    policies: tuple[str, ...] = ("pusht-keypoints-ddpm@ddim:10", "pusht-keypoints-onedp-s")
    """POLICY@SAMPLER; the first is the reference."""
    draws: int = 3
    """Episodes from each start, with other noise."""
    step: int = 0
    """Of the episodes, whose states are the starts; shorter episodes are left out."""
    json: Path = Path("results/training-starts.json")


@dataclass
class FromDemonstrations:
    """Push-T that begins in recorded states."""

    task: Task
    starts: ndarray
    """Raw states ``(n, 5)``: agent x, y, block x, y [px], block angle [rad]."""
    draws: int

    def __post_init__(self) -> None:
        self._env = PushTEnvironment(self.task.features)
        self.step, self.render = self._env.step, self._env.render

    def reset(self, seed: int) -> dict[str, ndarray]:
        return self._env.reset_to(self.starts[(seed - FIRST_SEED) // self.draws], seed)


def states_at(step: int, demonstrations: Path) -> ndarray:
    """``(n, 5)``, one for each episode that has so many steps; raises ``OneDPError`` where none has."""
    recording = open_recording(demonstrations, ReadingConfig())
    name = "obs/state" if "obs/state" in recording.headers else "state"  # of onedp record, of Push-T's own files
    episodes = recording.episodes([name])
    states, ends = np.asarray(episodes.arrays[name]), np.asarray(episodes.ends)
    wanted = np.concatenate([[0], ends[:-1]]) + step
    if not (wanted < ends).any():
        longest = np.diff(ends, prepend=0).max()
        raise OneDPError(f"No episode of {demonstrations} has a step {step}; the longest has {longest} steps.")
    return states[wanted[wanted < ends]].astype(np.float64)


def run(contestant: Contestant, starts: ndarray, draws: int) -> dict[str, ndarray]:
    """Mean score and success of every start."""
    policy = load_policy(contestant.policy, contestant.sampler)
    task = get_task(policy.task)
    rows = []
    for seeds in tqdm(groups_of(FIRST_SEED, len(starts) * draws), desc=policy.name, unit="group"):
        envs = [FromDemonstrations(task, starts, draws) for _ in seeds]
        rows += [rollout.result for rollout in run_group(policy, task, envs, seeds)]
    return {
        "score": np.array([row.score for row in rows]).reshape(-1, draws).mean(axis=1),
        "success": np.array([float(row.success) for row in rows]).reshape(-1, draws).mean(axis=1),
    }


def main(options: Options) -> None:
    """Run all, compare with the first, write."""
    torch.set_num_threads(1)
    starts = states_at(options.step, options.demonstrations)
    found = {text: run(Contestant.parse(text), starts, options.draws) for text in options.policies}
    reference = found[options.policies[0]]
    rows = []
    for text, numbers in found.items():
        row: dict[str, object] = {"policy": text}
        for name, values in numbers.items():
            mean = bootstrap_mean(values, np.random.default_rng(BOOTSTRAP_SEED))
            row |= {name: mean.value, f"{name}_ci95": [mean.low, mean.high]}
            if numbers is not reference:
                pair = paired_mean_difference(values, reference[name], np.random.default_rng(BOOTSTRAP_SEED))
                row |= {f"{name}_difference": pair.value, f"{name}_difference_ci95": [pair.low, pair.high]}
        print(row)
        rows.append(row | {f"{name}_by_start": np.round(values, 4).tolist() for name, values in numbers.items()})
    write_json(
        options.json,
        {
            "command": command_line(),
            "hardware": hardware("cpu"),
            "date": datetime.date.today().isoformat(),
            "starts": len(starts),
            "step": options.step,
            "draws": options.draws,
            "intervals": "95 %, BCa bootstrap over starts; differences to the first policy are paired by start",
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
