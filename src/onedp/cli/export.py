"""``onedp export``: a policy to a folder that runs without PyTorch, or in LeRobot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    """ddim:10, ddpm:100, heun:10, one-step; default: the one stored with the policy."""
    data: Path | None = None
    """Data set whose observations the check uses besides random ones; default: what the package ships for the task."""
    results: Path | None = None
    """Result of onedp evaluate --json for this policy and sampler: its scores go into the model card."""
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
        results = None
        if self.results is not None:
            from onedp.evaluate.results import EvaluationResult, load_results

            loaded = load_results(self.results)
            if not isinstance(loaded, EvaluationResult):
                raise OneDPError(f"{self.results} is a comparison; give the result of onedp evaluate --json.")
            results = loaded
        from onedp.export.reference import recorded_observations

        recorded = recorded_observations(self.policy, self.data)
        if self.to == "lerobot":
            from onedp.export.lerobot import export_lerobot

            manifest = export_lerobot(self.policy, self.out, self.sampler, self.rename, recorded, results)
        else:
            from onedp.export.export import export_policy

            manifest = export_policy(self.policy, self.to, self.out, self.sampler, recorded, results)
        parity = json.loads((self.out / "parity.json").read_text())
        size = sum((self.out / name).stat().st_size for name in manifest.files)
        console = make_console()
        console.print(
            f"{self.out}: {manifest.name} with {manifest.sampler}, {manifest.nfe} network pass(es), {size:,} bytes\n"
            f"  parity    largest difference {parity['largest_distance']:.1e} of half the action range, accepted "
            f"{manifest.tolerance:g}; {len(parity['rows'])} checks, runtimes "
            f"{', '.join(sorted({row['runtime'] for row in parity['rows']}))}"
        )
        if recorded is None:
            console.print("  no real observations were checked: give a data set with --data")
        run_it = "lerobot-eval --policy.path=" if self.to == "lerobot" else "onedp latency "
        console.print(f"  run it    {run_it}{self.out}")
