"""``onedp export``: a policy to a folder that runs without PyTorch, or in LeRobot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass(frozen=True)
class Export:
    """Write a policy as one graph with normalisation inside, or as LeRobot's, checked against the policy itself."""

    policy: tyro.conf.Positional[str]
    """Folder of a policy, or the name of a shipped one."""
    out: Path
    """Folder to write: the graph, manifest.json, parity.json, README.md."""
    to: str = "onnx"
    """onnx (ONNX Runtime, OpenVINO, TensorRT), openvino (OpenVINO's own format) or lerobot (a stock diffusion policy of
    LeRobot, for one-step students that predict x0)."""
    sampler: str | None = None
    """ddim:10, ddpm:100, heun:10, one-step, as of onedp evaluate; default: the one stored with the policy."""
    data: Path | None = None
    """Data set whose observations the check uses besides random ones; default: what the package ships for the task."""
    precision: str = "fp32"
    """fp32, bf16 (OpenVINO, on processors that have it) or int8 (ONNX Runtime, policies of one pass). Reduced precision
    is written only if it acts as fp32: paired evaluation on the policy's task, or actions on held-out observations."""
    gate_episodes: int = 500
    """Starts of the paired evaluation, 500 or more."""
    gate_data: Path | None = None
    """Without a task to simulate: judge by the actions on held-out observations of this data set (every 20th episode,
    which neither training nor --data looks at)."""
    workers: int | None = None
    """Worker processes of the paired evaluation, at most one for every 25 starts; default: one per core."""
    results: Path | None = None
    """Result of onedp evaluate --json for this policy and sampler: its scores go into the model card. Those of shipped
    policies are known."""
    rename: tuple[str, ...] = ()
    """With --to lerobot, for tasks it does not know: THEIRS=OURS or THEIRS=A,B for the observations,
    e.g. observation.state=joints,gripper."""

    def run(self) -> None:
        """Export, check, print."""
        import json

        from onedp.cli.console import make_console
        from onedp.errors import OneDPError, unknown_choice

        targets = ("onnx", "openvino", "lerobot")
        if self.to not in targets:
            raise OneDPError(unknown_choice("export target", self.to, targets))
        if self.rename and self.to != "lerobot":
            raise OneDPError(
                f"--rename names the features of --to lerobot; a graph for {self.to} keeps the policy's own."
            )
        from onedp.evaluate.scores import read_scores

        results = None if self.results is None else read_scores(self.results)
        from onedp.backends.runtimes import FLOAT32, parse_precision

        precision = parse_precision(self.precision)
        if precision != FLOAT32 and self.to == "lerobot":
            raise OneDPError("LeRobot's policies are float32. Use --precision fp32, or --to onnx or openvino.")
        from onedp.export.reference import recorded_observations

        recorded = recorded_observations(self.policy, self.data)
        print(f"Exporting {self.policy}: the graph, then its answers in every installed runtime ...", flush=True)
        gate = self._gate(recorded) if precision != FLOAT32 else None
        if self.to == "lerobot":
            from onedp.export.lerobot import export_lerobot

            manifest = export_lerobot(self.policy, self.out, self.sampler, self.rename, recorded, results)
        else:
            from onedp.export.export import export_policy

            manifest = export_policy(self.policy, self.to, self.out, self.sampler, recorded, results, precision, gate)
        parity = json.loads((self.out / "parity.json").read_text())
        size = sum((self.out / name).stat().st_size for name in manifest.files)
        console = make_console()
        console.print(
            f"{self.out}: {manifest.name} with {manifest.sampler}, {manifest.nfe} network pass(es), {size:,} bytes\n"
            f"  parity    largest difference {parity['largest_distance']:.1e} of half the action range, accepted "
            f"{manifest.tolerance:g} (far outside the training data {parity['largest_distance_wide']:.1e}, accepted "
            f"{parity['tolerance_wide']:g}); {len(parity['rows'])} checks, runtimes "
            f"{', '.join(sorted({row['runtime'] for row in parity['rows']}))}"
        )
        if manifest.gate is not None:
            from onedp.export.gate import gate_lines

            for line in gate_lines(manifest.gate):
                console.print(f"  gate      {line}")
        if recorded is None:
            console.print("  no real observations were checked: give a data set with --data")
        run_it = "lerobot-eval --policy.path=" if self.to == "lerobot" else "onedp latency "
        console.print(f"  run it    {run_it}{self.out}")

    def _gate(self, recorded: Any) -> Any:
        """Held-out observations when they are given, else paired evaluation."""
        from onedp.artifact import read_manifest, resolve_artifact
        from onedp.errors import OneDPError
        from onedp.export.gate import heldout_gate, paired_gate
        from onedp.tasks.recorded import reading_task

        policy = read_manifest(resolve_artifact(self.policy))
        if self.gate_data is not None:
            task = reading_task(policy.task, policy.spec, policy.provenance)
            return heldout_gate(self.gate_data, task, recorded)
        if not policy.task:
            raise OneDPError(
                f"{self.policy} has no task to be evaluated on, so --precision {self.precision} needs held-out "
                "observations: --gate-data DATA."
            )
        from onedp.cli.console import tell_of_idle_workers
        from onedp.evaluate.runner import EvaluationRequest, evaluate

        tell_of_idle_workers(self.gate_episodes, self.workers)
        return paired_gate(
            lambda folder, first_seed, episodes: evaluate(
                EvaluationRequest(str(folder), None, policy.task, episodes, first_seed, self.workers)
            ),
            self.gate_episodes,
        )
