"""``onedp bench two-modes``: teachers, students and their examination on the synthetic task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from onedp.bench.cells import Cell, CellStore, UnfinishedError
from onedp.bench.contestants import Contestant
from onedp.bench.cost import FORWARD_BACKWARD, count_version, probe_cost, spent_by, steps_within
from onedp.bench.frame import Lab, Numbers, Trained
from onedp.bench.heldout_numbers import Sampling
from onedp.bench.lab import OBSERVATION, Examination, Fitted, LabData, fit, make_data
from onedp.bench.timing import latencies_once
from onedp.bench.two_modes import SPEC
from onedp.bench.two_modes_columns import TWO_MODES_COLUMNS
from onedp.bench.two_modes_plan import Plan, TwoModesOptions, stage_folder, weights_of
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import NoiseSchedule
from onedp.errors import OneDPError
from onedp.files import replaced_file
from onedp.methods.config import DenoisingConfig, EmaConfig, MethodConfig, OptimizerConfig
from onedp.methods.method import Method, Setting
from onedp.methods.presets import fitted
from onedp.methods.table import build_method, method_identity, recipe
from onedp.nets.build import build_denoiser, network_to_json
from onedp.nets.config import NetworkConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.train.config import LoopConfig
from onedp.train.run import network_for
from onedp.train.solver import solver


class TwoModesLab(Lab):
    """Teachers are trained once and shared by all seeds; a seed is of the student's training."""

    task = "two-modes"
    columns = TWO_MODES_COLUMNS
    reference_sampler: Mapping[str, str] = {"ddpm": "ddpm:100", "edm": "heun:18", "flow": "euler:50"}

    def __init__(self, out: Path, options: TwoModesOptions | None = None, make_missing: bool = True):
        self.out = out
        self.options = options or TwoModesOptions()
        self.store = CellStore(out, make_missing)
        self._data: LabData | None = None
        self._chunks: dict[str, ndarray] = {}

    @property
    def data(self) -> LabData:
        """The data set, drawn when it is first needed."""
        if self._data is None:
            self._data = make_data(self.options.chunks, self.options.data_seed)
        return self._data

    def teacher(self, process: str) -> Trained:
        """Denoising training with the options' network; DDPM-100 with cosine schedule, EDM, or a flow policy."""
        options = self.options
        rate = OptimizerConfig(lr=options.teacher_lr, warmup_steps=200, decay="cosine", clip_norm=1.0)
        config = DenoisingConfig(process=process, optimizer=rate, ema=EmaConfig(max_decay=0.999))  # type: ignore[arg-type]
        loop = self._loop(options.teacher_steps, options.teacher_batch, 0)
        cost = {"step": FORWARD_BACKWARD * options.teacher_batch * self.weights}
        return self._trained(Plan(f"teacher-{process}", config, loop, None, cost))

    def trained(self, contestant: Contestant, budget: float, seed: int) -> Trained:
        """A method of the table with its preset, for as many steps as the budget is worth."""
        return self._trained(self._plan_of(contestant, budget, seed))

    def stages(self, contestant: Contestant, budget: float, seed: int) -> dict[str, Trained]:
        """See ``Lab.stages``; raises ``UnfinishedError`` for a training of before they were kept."""
        plan = self._plan_of(contestant, budget, seed)
        result = self._trained(plan)
        cell = Cell(plan.name, self._identity(plan))
        kept = (self.store.find(cell) or {}).get("stages")
        if kept is None:
            kind = OneDPError if self.store.make_missing else UnfinishedError  # a row that failed says why
            raise kind(f"{cell.name} was trained before its stages were kept. Remove {self.store.path(cell)} for them.")
        spent = spent_by(plan.cost, plan.loop.steps, {name: each["numbers"]["steps"] for name, each in kept.items()})
        return {
            name: Trained(
                stage_folder(result.folder, name), each["weights_digest"], {**each["numbers"], "passes": spent[name]}
            )
            for name, each in kept.items()
        }

    def trained_by(
        self,
        contestant: Contestant,
        config_for: Callable[[int], MethodConfig],
        batch_size: int,
        budget: float,
        seed: int,
    ) -> Trained:
        """Any config, given for a number of steps; the steps are those that the budget is worth."""
        return self._trained(self._plan(contestant, config_for, batch_size, budget, seed))

    def _plan_of(self, contestant: Contestant, budget: float, seed: int) -> Plan:
        assert contestant.method is not None
        preset = recipe(contestant.method, contestant.preset, contestant.process)
        weights = self.weights if contestant.network is None else weights_of(contestant.network)

        def config_for(steps: int) -> MethodConfig:
            return fitted(preset, steps, weights)

        return self._plan(contestant, config_for, preset.batch_size, budget, seed)

    def _plan(
        self,
        contestant: Contestant,
        config_for: Callable[[int], MethodConfig],
        batch_size: int,
        budget: float,
        seed: int,
    ) -> Plan:
        process = contestant.process if contestant.needs_teacher else None
        teacher_passes = self.teacher(contestant.process).numbers["passes"]
        assert teacher_passes is not None
        name, own = contestant.text, contestant.network
        sample = Plan(f"cost-{name}", config_for(1000), self._loop(1000, batch_size, 0), process, {}, own)
        probed = Cell(sample.name, {"cost": 1, **count_version(sample.config), **self._identity(sample)})
        cost = self.store.done(probed, lambda: self._probe(config_for, sample))
        steps = steps_within(budget, teacher_passes, cost["step"])
        return Plan(f"{name}-{seed}", config_for(steps), self._loop(steps, batch_size, seed), process, cost, own)

    def examined(self, trained: Trained, process: str, sampler: str | None) -> Numbers:
        """Scores against the truth, distances to the teacher."""
        options = self.options
        identity = {
            "examination": 1, "weights": trained.digest, "sampler": sampler, "teacher": self.teacher(process).digest,
            "observations": options.observations, "draws": options.draws,
        }  # fmt: skip

        def make() -> dict[str, Any]:
            return self.numbers_of(load_policy(trained.folder, sampler), process)

        return self.store.done(Cell(f"examined-{trained.folder.name}-{sampler or 'own'}", identity), make)

    def numbers_of(self, policy: TorchPolicy, process: str) -> dict[str, Any]:
        """What ``examined`` finds of a policy."""
        examination = Examination.make(self.options.observations, self.options.draws, seed=0)
        reference = self._reference_chunks(process, examination)
        chunks = examination.chunks(policy, stream=1)
        numbers = examination.numbers(chunks, reference)
        truth = examination.numbers(reference, reference)
        sampling = Sampling.of(policy, {OBSERVATION: examination.obs[:, None]}, seed=0)
        return {
            **numbers,
            "teacher_valid": truth["valid"],
            "share_error": max(abs(numbers[key] - truth[key]) for key in ("left_positive", "left_negative")),
            "out_of_range": sampling.out_of_range(policy.sampler.clip),
            "nfe": policy.nfe,
            "parameters": sum(p.numel() for p in policy.denoiser.parameters()),
        }

    def latencies(self, policies: Sequence[tuple[Trained, str | None]]) -> list[float]:
        """See ``latencies_once``."""
        return latencies_once(self.out, policies)

    def facts(self) -> dict[str, Any]:
        """Options of the laboratory."""
        return {"options": asdict(self.options), "references": dict(self.reference_sampler)}

    def _loop(self, steps: int, batch_size: int, seed: int) -> LoopConfig:
        return LoopConfig(
            steps=steps, batch_size=batch_size, seed=seed, threads=1, cpu=True, diagnose_every=steps,
            checkpoint_every=steps,
        )  # fmt: skip

    @property
    def weights(self) -> int:
        """Weights of the options' network."""
        return weights_of(self.options.network)

    def _identity(self, plan: Plan) -> dict[str, Any]:
        options = self.options
        identity: dict[str, Any] = {
            "task": self.task,
            "method": method_identity(plan.config),
            "steps": plan.loop.steps,
            "batch_size": plan.loop.batch_size,
            "seed": plan.loop.seed,
            "network": {name: value for name, value in network_to_json(options.network).items() if name != "kind"},
            "data": {"chunks": options.chunks, "seed": options.data_seed},
        }
        if plan.process is not None:
            identity["teacher"] = self.teacher(plan.process).digest
        if plan.network is not None:  # cells of before there could be one say nothing of it
            identity["own_network"] = network_to_json(plan.network)
        return identity

    def _trained(self, plan: Plan) -> Trained:
        cell = Cell(plan.name, self._identity(plan))
        folder = self.out / "policies" / self.store.stem(cell)

        def make() -> dict[str, Any]:
            network = network_for(plan.config, plan.network or self.options.network)
            method = self._method(plan.config, plan.loop.steps, plan.loop.seed, plan.process, network)
            stages: dict[str, Any] = {}

            def keep(name: str, step: int, so_far: Fitted) -> None:
                if name in plan.config.stages:
                    policy = self._policy(f"{cell.stem}-{name}", network, method, so_far)
                    digest = save_policy(stage_folder(folder, name), policy)
                    stages[name] = {"weights_digest": digest, "numbers": {"steps": step, **so_far.seconds}}

            result = fit(method, self.data, plan.loop, self.out / "runs" / cell.stem, cell.identity, keep)
            digest = save_policy(folder, self._policy(cell.stem, network, method, result))
            return {
                "weights_digest": digest,
                "numbers": {
                    "steps": plan.loop.steps,
                    **result.seconds,
                    "passes": plan.cost["step"] * plan.loop.steps,
                },
                **({"stages": stages} if stages else {}),
            }

        found = self.store.done(cell, make)
        return Trained(folder, found["weights_digest"], found["numbers"])

    def _method(
        self, config: MethodConfig, steps: int, seed: int, process: str | None, network: NetworkConfig
    ) -> Method:
        def untrained(schedule: NoiseSchedule, parameterization: str) -> Denoiser:
            return build_denoiser(network, SPEC, schedule, parameterization)

        torch.manual_seed(seed)
        if process is None:
            return build_method(config, Setting(steps, 1.0, untrained))
        teacher = load_policy(self.teacher(process).folder)
        sampler = solver(teacher, config)
        same = network == network_for(config, self.options.network)
        setting = Setting(steps, sampler.clip, untrained, teacher.denoiser, sampler, same, SPEC.executed_steps)
        return build_method(config, setting)

    def _policy(self, name: str, network: NetworkConfig, method: Method, result: Fitted) -> TorchPolicy:
        return TorchPolicy(
            name=name,
            spec=SPEC,
            task="",
            denoiser=result.network,
            sampler=method.sampler(),
            normalizer=self.data.normalizer,
            network=network,
            provenance={"task": self.task},
            device=torch.device("cpu"),
        )

    def _probe(self, config_for: Callable[[int], MethodConfig], plan: Plan) -> dict[str, Any]:
        def build(steps: int) -> Method:
            config = config_for(steps)
            network = network_for(config, plan.network or self.options.network)
            return self._method(config, steps, 0, plan.process, network)

        return probe_cost(build, self.data.windows, plan.loop)

    def _reference_chunks(self, process: str, examination: Examination) -> ndarray:
        """The reference's chunks, kept beside the cells: a hundred passes each are not to be made twice."""
        if process not in self._chunks:
            sampler = self.reference_sampler[process]
            options = self.options
            identity = {
                "reference": 1,
                "weights": self.teacher(process).digest,
                "sampler": sampler,
                "observations": options.observations,
                "draws": options.draws,
            }
            cell = Cell(f"reference-{process}", identity)
            file = self.out / "policies" / f"{cell.stem}.npy"
            if not file.exists():
                chunks = examination.chunks(load_policy(self.teacher(process).folder, sampler), stream=0)
                with replaced_file(file) as temporary, temporary.open("wb") as stream:
                    np.save(stream, chunks, allow_pickle=False)
            self._chunks[process] = np.load(file, allow_pickle=False)
        return self._chunks[process]
