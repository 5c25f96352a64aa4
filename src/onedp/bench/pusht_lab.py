"""``onedp bench pusht-keypoints``: the shipped teachers (or yours), students distilled here, all on the same starts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onedp.artifact import read_manifest, resolve_artifact
from onedp.bench.cells import Cell, CellStore
from onedp.bench.contestants import Contestant
from onedp.bench.cost import FORWARD_BACKWARD, count_version, probe_cost, steps_within
from onedp.bench.frame import Lab, Numbers, Trained
from onedp.bench.heldout_numbers import heldout_numbers
from onedp.bench.pusht_columns import PUSHT_COLUMNS
from onedp.bench.pusht_cost import builder, placeholder_windows, time_teacher_step
from onedp.bench.pusht_options import PushTOptions
from onedp.bench.pusht_runs import begun, continued, kept_stages
from onedp.bench.timing import latencies_once
from onedp.diffusion.schedule import NoiseSchedule
from onedp.errors import OneDPError
from onedp.evaluate.comparison import PairedDifference, load_results, save_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.methods.config import MethodConfig
from onedp.methods.presets import Preset, fitted
from onedp.methods.table import method_identity, recipe
from onedp.nets.build import network_to_json
from onedp.policy import load_policy
from onedp.shipped import distillation_data
from onedp.tasks import get_task
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.run import network_weights

COUNTED_FIRST = ("unet", "mlp")
"""Networks whose passes were counted from the start; old cells of the others hold a cost of 0."""


class PushTLab(Lab):
    """Students of one teacher of each process; everything a row needs is measured on this machine."""

    columns = PUSHT_COLUMNS
    reference_sampler: Mapping[str, str] = {"ddpm": "ddim:10", "edm": "heun:10", "flow": "euler:10"}

    def __init__(self, task: str, out: Path, options: PushTOptions | None = None, make_missing: bool = True):
        self.task = task
        self.out = out
        self.options = options or PushTOptions()
        self.store = CellStore(out, make_missing)

    def teacher(self, process: str) -> Trained:
        """The artifact, its cost counted from its provenance and timed by a few of its training steps here."""
        if process not in self.options.teachers:
            raise OneDPError(f"There is no {process} teacher. Name one with --teacher-{process}.")
        folder = resolve_artifact(self.options.teachers[process])
        provenance = read_manifest(folder).provenance
        digest = str(provenance["weights_digest"])
        loop = dict(provenance.get("run", {})).get("loop", {})
        if not {"steps", "batch_size"} <= set(loop):
            raise OneDPError(
                f"{folder} does not say how long it was trained (it was imported?), so no budget can be a share of it."
            )
        steps, batch_size = int(loop["steps"]), int(loop["batch_size"])
        timed = Cell(f"teacher-step-{process}", {"teacher_step": 1, "teacher": digest, "batch_size": batch_size})

        step = self.store.done(timed, lambda: self._time_teacher(process, batch_size))
        numbers: Numbers = {
            "steps": steps,
            "passes": FORWARD_BACKWARD * batch_size * steps * step["weights"],
            "cpu_seconds": step["cpu_seconds"] * steps,
            "wall_seconds": provenance.get("training_seconds"),
        }
        return Trained(folder, digest, numbers)

    def schedule(self, process: str) -> NoiseSchedule | None:
        """See ``Lab.schedule``; an imported teacher may have another one than ours."""
        named = self.options.teachers.get(process)
        return None if named is None else load_policy(named).denoiser.schedule

    def teacher_seconds(self, process: str) -> float | None:
        """See ``Lab.teacher_seconds``."""
        return self.teacher(process).numbers["cpu_seconds"]

    def _teacher_seconds(self, process: str) -> float:
        """Processor seconds that the teacher's training would take now: the machine's speed changes within hours."""
        teacher = self.teacher(process)
        loop = read_manifest(teacher.folder).provenance["run"]["loop"]  # there: teacher() has looked
        return float(loop["steps"] * self._time_teacher(process, int(loop["batch_size"]))["cpu_seconds"])

    def _time_teacher(self, process: str, batch_size: int) -> dict[str, float]:
        policy, data = load_policy(self.options.teachers[process]), self._observations(process)
        return time_teacher_step(policy, process, data, self.task, self._loop(1000, batch_size, 0))

    def trained(self, contestant: Contestant, budget: float, seed: int) -> Trained:
        """A method of the table with its preset, for as many steps as the budget is worth."""
        assert contestant.method is not None
        preset = recipe(contestant.method, contestant.preset, contestant.process)
        cost = self._cost(contestant, preset)
        steps = self._steps(contestant, cost, budget)
        weights = self._weights(contestant)
        run = self._run(contestant, fitted(preset, steps, weights), self._loop(steps, preset.batch_size, seed))
        identity = {
            "task": self.task,
            "method": method_identity(run.method),
            "steps": steps,
            "batch_size": preset.batch_size,
            "seed": seed,
            "teacher": self.teacher(contestant.process).digest if contestant.needs_teacher else None,
            "data": run.data.name,
            "mirror": isinstance(run, TeacherRun) and run.mirror,
            **({"beside": [file.name for file in run.beside]} if isinstance(run, StudentRun) and run.beside else {}),
            **_network_identity(contestant),
        }
        cell = Cell(f"{contestant.text}-{seed}", identity)
        folder = self.out / "runs" / self.store.stem(cell)

        def make() -> dict[str, Any]:
            stopped, before = (folder / "run.json").exists(), self._teacher_seconds(contestant.process)
            started = time.process_time()
            policy = continued(run, folder) if stopped else begun(run, folder)
            seconds = round(time.process_time() - started, 3)
            both = (before + self._teacher_seconds(contestant.process)) / 2
            return {
                "weights_digest": str(read_manifest(folder / "policy").provenance["weights_digest"]),
                "numbers": {
                    "steps": steps,
                    "passes": cost["step"] * steps,
                    "cpu_seconds": None if stopped else seconds,
                    "teacher_cpu_seconds": both,
                    "wall_seconds": policy.provenance["training_seconds"],
                },
            }

        found = self.store.done(cell, make)
        return Trained(folder / "policy", found["weights_digest"], found["numbers"])

    def stages(self, contestant: Contestant, budget: float, seed: int) -> dict[str, Trained]:
        """See ``Lab.stages``; they are in the run's folder."""
        assert contestant.method is not None
        preset = recipe(contestant.method, contestant.preset, contestant.process)
        cost = self._cost(contestant, preset)
        whole = self.trained(contestant, budget, seed)
        beside = {"teacher_cpu_seconds": whole.numbers.get("teacher_cpu_seconds")}
        steps = self._steps(contestant, cost, budget)
        stages = kept_stages(whole.folder.parent, preset.config.stages, cost, steps)
        return {name: dataclasses.replace(stage, numbers={**stage.numbers, **beside}) for name, stage in stages.items()}

    def examined(self, trained: Trained, process: str, sampler: str | None) -> Numbers:
        """Episodes on the same starts, paired with the teacher's, and chunks on held-out observations."""
        result = self._evaluation(trained, sampler)
        reference = self._evaluation(self.teacher(process), self.reference_sampler[process])
        paired = PairedDifference.of(result, reference)
        options = self.options
        identity = {
            "heldout": 3,
            "weights": trained.digest,
            "sampler": sampler,
            "reference": [self.teacher(process).digest, self.reference_sampler[process]],
            "data": self._observations(process).name,
            **dataclasses.asdict(options.heldout),
        }

        def make() -> dict[str, Any]:
            policy = load_policy(trained.folder, sampler)
            yardstick = load_policy(self.teacher(process).folder, self.reference_sampler[process])
            return heldout_numbers(policy, yardstick, self._observations(process), get_task(self.task), options.heldout)

        heldout = self.store.done(Cell(f"heldout-{self._short(trained)}-{sampler or 'own'}", identity), make)
        return {
            "score": result.score_mean,
            "score_low": result.score_ci95[0],
            "score_high": result.score_ci95[1],
            "teacher_score": reference.score_mean,
            "success": result.success_rate,
            "success_low": result.success_ci95[0],
            "success_high": result.success_ci95[1],
            "score_difference": paired.score_difference,
            "score_difference_low": paired.score_ci95[0],
            "score_difference_high": paired.score_ci95[1],
            "success_difference": paired.success_difference,
            "success_difference_low": paired.success_ci95[0],
            "success_difference_high": paired.success_ci95[1],
            "nfe": result.nfe,
            "parameters": result.parameters,
            **heldout,
        }

    def latencies(self, policies: Sequence[tuple[Trained, str | None]]) -> list[float]:
        """See ``latencies_once``."""
        return latencies_once(self.out, policies)

    def facts(self) -> dict[str, Any]:
        """Starts and references."""
        options = self.options
        return {
            "episodes": options.episodes,
            "first_seed": options.first_seed,
            "teachers": {name: resolve_artifact(each).name for name, each in options.teachers.items()},
            "references": dict(self.reference_sampler),
            "heldout": dataclasses.asdict(options.heldout),
        }

    def _evaluation(self, trained: Trained, sampler: str | None) -> EvaluationResult:
        """Episodes of a policy; kept as the files that ``onedp evaluate --json`` writes."""
        options = self.options
        identity = {
            "evaluation": 1,
            "weights": trained.digest,
            "sampler": sampler,
            "task": self.task,
            "episodes": options.episodes,
            "first_seed": options.first_seed,
        }
        cell = Cell(f"evaluation-{self._short(trained)}-{sampler or 'own'}", identity)
        file = self.out / "evaluations" / f"{cell.stem}.json"
        if not file.exists():
            self.store.require_making(cell)
            request = EvaluationRequest(
                str(trained.folder),
                sampler,
                self.task,
                options.episodes,
                options.first_seed,
                options.workers,
                ray=options.ray,
            )
            save_results(file, evaluate(request))
        result = load_results(file)
        assert isinstance(result, EvaluationResult)
        return result

    def _short(self, trained: Trained) -> str:
        """For names of files: the run's, with the stage of one that was kept on the way."""
        folder = trained.folder.parent
        return f"{folder.parent.name}-{trained.folder.name}" if folder.name == "stages" else folder.name

    def _observations(self, process: str) -> Path:
        return self._data(process)[0]

    def _data(self, process: str) -> tuple[Path, tuple[Path, ...]]:
        """See ``distillation_data``."""
        return distillation_data(self.options.teachers[process], self.options.observations, self.options.lost)

    def _run(self, contestant: Contestant, config: MethodConfig, loop: LoopConfig) -> StudentRun | TeacherRun:
        if contestant.needs_teacher:
            data, beside = self._data(contestant.process)
            teacher = self.options.teachers[contestant.process]
            return StudentRun(teacher, data, config, loop, contestant.network, beside=beside)
        if self.options.demonstrations is None:
            raise OneDPError(f"{contestant.text} is trained on demonstrations. Give them with --demonstrations.")
        network = contestant.network or load_policy(self.teacher(contestant.process).folder).network
        return TeacherRun(self.task, self.options.demonstrations, config, network, loop, mirror=self.options.mirror)

    def _loop(self, steps: int, batch_size: int, seed: int) -> LoopConfig:
        return LoopConfig(
            steps=steps, batch_size=batch_size, seed=seed, threads=1, cpu=True, checkpoint_every=250,
            diagnose_every=max(50, steps // 5),
        )  # fmt: skip

    def _cost(self, contestant: Contestant, preset: Preset) -> dict[str, Any]:
        """See ``probe_cost``; cells of before there were stages hold its ``step`` alone."""
        weights = self._weights(contestant)

        def config_for(steps: int) -> MethodConfig:
            return fitted(preset, steps, weights)

        loop = self._loop(1000, preset.batch_size, 0)
        teacher = load_policy(self.teacher(contestant.process).folder)
        identity = {
            "cost": 1 if teacher.network.kind in COUNTED_FIRST else 2,
            **count_version(preset.config),
            "teacher": self.teacher(contestant.process).digest,
            "method": method_identity(config_for(1000)),
            "batch_size": preset.batch_size,
            **_network_identity(contestant),
        }
        build = builder(teacher, config_for, contestant.needs_teacher, contestant.network)
        windows = placeholder_windows(teacher, self._observations(contestant.process), self.task)
        cell = Cell(f"cost-{contestant.text}", identity)
        return self.store.done(cell, lambda: probe_cost(build, windows, loop))

    def _steps(self, contestant: Contestant, cost: Mapping[str, Any], budget: float) -> int:
        passes = self.teacher(contestant.process).numbers["passes"]
        assert passes is not None
        return steps_within(budget, passes, cost["step"])

    def _weights(self, contestant: Contestant) -> int:
        """Of the policy that is trained, which its rates depend on."""
        folder = self.teacher(contestant.process).folder
        if contestant.network is not None:
            return network_weights(contestant.network, folder)
        return sum(p.numel() for p in load_policy(folder).denoiser.parameters())


def _network_identity(contestant: Contestant) -> dict[str, Any]:
    """Nothing where the network is the teacher's, as in cells of before there could be another."""
    return {} if contestant.network is None else {"network": network_to_json(contestant.network)}
