"""A training step of a diffusion policy here and in LeRobot: the same network, the same batch, taking turns.

    bash benchmarks/lerobot_interop/build_env.sh ../lerobot-env
    python benchmarks/lerobot_training/step_time.py --env ../lerobot-env --work ../step-time \
        --json results/lerobot-training-step.json

LeRobot makes the untrained policy and saves it; ``onedp import`` reads it, so both train the very same network from the
same weights. A step is what the training loops do: ours draws its batch (random crops included), keeps a moving average
of the weights and clips; LeRobot's is given its batch as floats, and clips. Needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.state import AcceleratorState

from onedp.data.episodes import Episodes
from onedp.files import write_json
from onedp.importers.formats import read_foreign_policy
from onedp.importers.imported import to_policy
from onedp.machine import command_line, cpu_name
from onedp.methods.config import DenoisingConfig
from onedp.methods.denoising import Denoising
from onedp.policy import TorchPolicy
from onedp.train.config import LoopConfig
from onedp.train.loop import initial_state, make_accelerator, make_loader, train_step
from onedp.train.windows import WindowTensors, window_tensors

STATE, ENVIRONMENT, ACTION, CAMERA, CROP = 2, 16, 2, (96, 96), (84, 84)
CASES: dict[str, dict[str, Any]] = {
    "state, (64, 128, 256)": {"channels": (64, 128, 256), "camera": None, "batch": 256},
    "state, (256, 512, 1024)": {"channels": (256, 512, 1024), "camera": None, "batch": 64},
    "image, (64, 128, 256)": {"channels": (64, 128, 256), "camera": CAMERA, "batch": 64},
    "image, (256, 512, 1024)": {"channels": (256, 512, 1024), "camera": CAMERA, "batch": 64},
}
"""Two observation steps, horizon 16; the image cases read one camera of 96 px, cropped to 84, with ResNet-18."""


@dataclass(frozen=True)
class Setup:
    """What both sides are given."""

    case: dict[str, Any]
    arrays: dict[str, np.ndarray]
    """One recording by LeRobot's names, of as many steps as the batch has windows."""
    work: Path

    def batch(self) -> dict[str, np.ndarray]:
        """LeRobot's batch: windows of the recording, already normalised, pictures as floats with channels first."""
        rng = np.random.default_rng(1)
        rows = rng.integers(1, len(self.arrays["action"]), self.case["batch"])
        found = {}
        for name, values in self.arrays.items():
            offsets = np.arange(-1, 15) if name == "action" else np.arange(-1, 1)
            steps = np.minimum(rows[:, None] + offsets, len(values) - 1)
            window = values[steps]
            found[name] = np.moveaxis(window, -1, -3).astype(np.float32) / 255 if "images" in name else window
        return found


def setup(name: str, threads: int, work: Path) -> Setup:
    """Random observations and actions for the case ``name``."""
    case = {
        **CASES[name],
        "state": STATE,
        "environment": ENVIRONMENT,
        "action": ACTION,
        "crop": CROP,
        "threads": threads,
    }
    rng = np.random.default_rng(0)
    steps = case["batch"] + 1
    arrays = {"observation.state": rng.uniform(-1, 1, (steps, STATE)), "action": rng.uniform(-1, 1, (steps, ACTION))}
    if case["camera"]:
        arrays["observation.images.top"] = rng.integers(0, 256, (steps, *CAMERA, 3), dtype=np.uint8)
    else:
        arrays["observation.environment_state"] = rng.uniform(-1, 1, (steps, ENVIRONMENT))
    arrays = {key: each if each.dtype == np.uint8 else each.astype(np.float32) for key, each in arrays.items()}
    work.mkdir(parents=True, exist_ok=True)
    return Setup(case, arrays, work)


class Theirs:
    """LeRobot's process."""

    def __init__(self, given: Setup, env: Path):
        case, batch = given.work / "case.json", given.work / "batch.npz"
        case.write_text(json.dumps(given.case))
        np.savez(batch, **given.batch())
        self.folder = given.work / "lerobot"
        script = Path(__file__).with_name("theirs.py")
        command = [str(env / "bin/python"), str(script), str(case), str(batch), str(self.folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("LeRobot's process ended; what it said stands above.")
        return json.loads(line)

    def step(self) -> dict[str, float]:
        """One step; its seconds and loss."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def ours(policy: TorchPolicy, given: Setup, precision: Literal["no", "bf16"]) -> Callable[[], dict[str, float]]:
    """A function that takes one step of our training loop, and gives its seconds and loss."""
    denoiser = policy.denoiser.requires_grad_(True).train()
    method = Denoising(DenoisingConfig(), denoiser, steps=1_000_000)
    data = windows(policy, given)
    case = given.case
    config = LoopConfig(
        1_000_000, batch_size=case["batch"], cpu=True, threads=case["threads"], mixed_precision=precision
    )
    accelerator = make_accelerator(config, given.work)
    state = initial_state(method, accelerator)
    loader = make_loader(method, data, config, accelerator, range(config.steps))

    def step() -> dict[str, float]:
        start = time.perf_counter()
        logs = train_step(method, state, loader, config, accelerator)
        state.step += 1
        loss = float(logs["loss"])
        return {"seconds": time.perf_counter() - start, "loss": loss}

    return step


def windows(policy: TorchPolicy, given: Setup) -> WindowTensors:
    """The recording as our training reads it."""
    episodes = Episodes(given.arrays, np.array([len(given.arrays["action"])]), "random")
    return window_tensors(episodes, policy.spec, policy.normalizer, policy.encoder.training_crop)


def compared(name: str, env: Path, work: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Steps of LeRobot, of ours, and of ours in bf16 in turns; the first two of each are not counted."""
    given = setup(name, threads, work)
    theirs = Theirs(given, env)
    sides = {"lerobot": theirs.step}
    for label, precision in (("onedp", "no"), ("onedp_bf16", "bf16")):
        policy = to_policy(read_foreign_policy(theirs.folder), "imported", None, "", (), 10.0)
        weights = sum(parameter.numel() for parameter in policy.denoiser.parameters())
        assert weights == theirs.facts["weights"], (weights, theirs.facts)
        AcceleratorState._reset_state(reset_partial_state=True)  # one precision a process otherwise
        sides[label] = ours(policy, given, precision)
    taken = [{label: step() for label, step in sides.items()} for _ in range(rounds + 2)]
    theirs.close()
    row: dict[str, Any] = {"weights": weights, "batch": given.case["batch"], "lerobot_torch": theirs.facts["torch"]}
    row["first_losses"] = {label: round(taken[0][label]["loss"], 4) for label in sides}
    for label in sides:
        ratios = sorted(turn["lerobot"]["seconds"] / turn[label]["seconds"] for turn in taken[2:])
        row[label] = {
            "seconds": round(statistics.median(turn[label]["seconds"] for turn in taken[2:]), 4),
            "speedup": round(statistics.median(ratios), 3),
            "speedup_quartiles": [round(ratios[len(ratios) // 4], 3), round(ratios[-1 - len(ratios) // 4], 3)],
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = {}
    for index, name in enumerate(options.cases):
        cases[name] = compared(name, options.env, options.work / str(index), options.threads, options.rounds)
        print(name, json.dumps(cases[name]), flush=True)
    facts = {"command": command_line(), "cpu": cpu_name(), "threads": options.threads, "torch": torch.__version__}
    write_json(options.json, {**facts, "rounds": options.rounds, "cases": cases})


if __name__ == "__main__":
    main()
