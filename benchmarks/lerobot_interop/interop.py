"""Does the real LeRobot run an exported student, and as we do? Run with onedp's environment:

    python benchmarks/lerobot_interop/interop.py POLICY --env ENV --work DIR --json results/lerobot-interop.json

ENV was made by build_env.sh. Exports POLICY (Push-T with keypoints, one step), compares LeRobot's actions with ours on
recorded observations and the same noise, then runs ``lerobot-eval`` on gym-pusht. The starts are ours (seeds from
100000); LeRobot draws noise of its own there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.statistics import bootstrap_mean, wilson_interval
from onedp.export.lerobot import export_lerobot
from onedp.export.reference import recorded_observations
from onedp.files import write_json
from onedp.machine import command_line, cpu_name
from onedp.policy import TorchPolicy, load_policy
from onedp.types import episode_noise

HERE = Path(__file__).parent
WINDOWS = 64
FIRST_SEED = 100_000


def compared_actions(
    policy: TorchPolicy, obs: dict[str, np.ndarray], theirs: dict[str, np.ndarray], folder: Path, env: Path, work: Path
) -> dict[str, Any]:
    """Largest differences between the actions of LeRobot, given ``theirs``, and ours; facts about its environment."""
    windows, steps = len(next(iter(obs.values()))), policy.spec.n_action_steps
    noise = np.stack([episode_noise(0, row, policy.noise_shape) for row in range(windows)])
    drawn = np.random.default_rng(0).standard_normal((windows, *noise.shape[2:]))  # for students that read none
    inputs, answers = work / "inputs.npz", work / "answers.npz"
    np.savez(inputs, noise=(noise[:, 0] if policy.sampler.draws else drawn).astype(np.float32), **theirs)
    command = [env / "bin/python", HERE / "act.py", folder, inputs, answers]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer = np.load(answers)
    at_start = {name: np.repeat(values[:, :1], policy.spec.n_obs_steps, axis=1) for name, values in obs.items()}
    chunks, episode = policy.infer(obs, noise)[:, :steps], policy.infer(at_start, noise)[:, :steps]
    return {
        "windows": windows,
        "unit": policy.spec.action.unit,
        "largest_difference": float(np.abs(answer["chunks"] - chunks).max()),
        "largest_difference_select_action": float(np.abs(answer["episode"] - episode).max()),
        "spread_of_actions": float(chunks.std()),
        **json.loads(done.stdout.splitlines()[-1]),
    }


def compared_pusht(policy_name: str, folder: Path, env: Path, work: Path) -> dict[str, Any]:
    """``compared_actions`` on recorded observations of Push-T."""
    recorded = recorded_observations(policy_name, None)
    assert recorded is not None  # Push-T's are shipped
    obs = {name: values[:WINDOWS].astype(np.float32) for name, values in recorded.windows.items()}
    theirs = {"observation.state": obs["agent_pos"], "observation.environment_state": obs["keypoints"]}
    return compared_actions(load_policy(policy_name), obs, theirs, folder, env, work)


def evaluated(folder: Path, env: Path, work: Path, episodes: int) -> dict[str, Any]:
    """What ``lerobot-eval`` measured: score is the best reward of an episode, as ours."""
    command = [
        str(env / "bin/lerobot-eval"), f"--policy.path={folder}", "--env.type=pusht",
        "--env.obs_type=environment_state_agent_pos", f"--eval.n_episodes={episodes}", "--eval.batch_size=25",
        "--policy.device=cpu", f"--seed={FIRST_SEED}", f"--output_dir={work / 'eval'}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    info = json.loads((work / "eval" / "eval_info.json").read_text())
    task = info["per_task"][0]["metrics"]
    scores, successes = np.asarray(task["max_rewards"], dtype=np.float64), np.asarray(task["successes"], dtype=bool)
    assert len(scores) == episodes
    score = bootstrap_mean(scores, np.random.default_rng(0))
    return {
        "command": " ".join(["lerobot-eval", "--policy.path=EXPORTED", *command[2:-1]]),
        "episodes": episodes,
        "score_mean": score.value,
        "score_ci95": [score.low, score.high],
        "success_rate": float(successes.mean()),
        "success_ci95": list(wilson_interval(int(successes.sum()), episodes)),
        "scores": [round(float(score), 4) for score in scores],
    }


def beside_ours(scores: list[float], ours: Path) -> dict[str, Any]:
    """LeRobot's scores beside those of ``onedp evaluate --json`` on the same starts."""
    result = load_results(ours)
    assert isinstance(result, EvaluationResult)
    assert result.first_seed == FIRST_SEED
    own = np.asarray([row.score for row in result.per_episode[: len(scores)]])
    difference = np.asarray(scores) - own
    return {
        "result": ours.name,
        "policy": result.policy,
        "weights_digest": result.weights_digest,
        "score_mean_ours_same_starts": float(own.mean()),
        "starts_within_0.01": int((np.abs(difference) < 0.01).sum()),
        "score_difference_mean": float(difference.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy")
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--ours", type=Path, help="result of onedp evaluate --json for the policy, from seed 100000")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = options.work / "exported"
    manifest = export_lerobot(options.policy, folder, recorded=recorded_observations(options.policy, None))
    parity = json.loads((folder / "parity.json").read_text())
    result = {
        "command": command_line(),
        "policy": {"name": manifest.name, "sampler": manifest.sampler, "weights_digest": manifest.weights_digest},
        "cpu": cpu_name(),
        "export": {key: value for key, value in parity.items() if key != "rows"},
        "actions": compared_pusht(options.policy, folder, options.env, options.work),
        "lerobot_eval": evaluated(folder, options.env, options.work, options.episodes) if options.episodes else None,
    }
    if options.ours is not None and result["lerobot_eval"]:
        result["beside_ours"] = beside_ours(result["lerobot_eval"]["scores"], options.ours)
    write_json(options.json, result)
    print(json.dumps({key: value for key, value in result.items() if key != "export"}, indent=1)[:2000])


if __name__ == "__main__":
    sys.exit(main())
