"""``onedp bench two-modes``: teachers, students and their examination on the synthetic task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from onedp.bench.cells import Cell, CellStore
from onedp.bench.contestants import Contestant
from onedp.bench.cost import probe_cost, steps_within
from onedp.bench.frame import Lab, Numbers, Trained
from onedp.bench.heldout_numbers import Sampling
from onedp.bench.lab import OBSERVATION, Examination, Fitted, LabData, fit, make_data
from onedp.bench.timing import median_latencies
from onedp.bench.two_modes import SPEC
from onedp.bench.two_modes_columns import TWO_MODES_COLUMNS
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import CosineDdpm, NoiseSchedule
from onedp.files import replaced_file
from onedp.methods.config import DenoisingConfig, EmaConfig, MethodConfig, OptimizerConfig
from onedp.methods.method import Method, Setting
from onedp.methods.presets import fitted
from onedp.methods.table import build_method, method_to_json, recipe
from onedp.nets.build import build_denoiser, network_to_json
from onedp.nets.config import MlpConfig, NetworkConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.train.config import LoopConfig
from onedp.train.run import network_for
from onedp.train.solver import solver


@dataclass(frozen=True)
class TwoModesOptions:
    """Sizes of the laboratory; all are part of every cell's identity that they matter for."""

    chunks: int = 65_536
    """Size of the data set."""
    data_seed: int = 0
    network: MlpConfig = dataclasses.field(
        default_factory=lambda: MlpConfig(width=128, blocks=3, expansion=2, step_embed_dim=64)
    )
    teacher_steps: int = 4000
    teacher_batch: int = 256
    teacher_lr: float = 2e-3
    observations: int = 64
    """Observations that policies are judged on."""
    draws: int = 128
    """Chunks for each."""


class TwoModesLab(Lab):
    """Teachers are trained once and shared by all seeds; a seed is of the student's training."""

    task = "two-modes"
    columns = TWO_MODES_COLUMNS
    reference_sampler: Mapping[str, str] = {"ddpm": "ddpm:100", "edm": "heun:18"}

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
        """Denoising training with the options' network; DDPM-100 with cosine schedule, or EDM."""
        options = self.options
        rate = OptimizerConfig(lr=options.teacher_lr, warmup_steps=200, decay="cosine", clip_norm=1.0)
        config = DenoisingConfig(process=process, optimizer=rate, ema=EmaConfig(max_decay=0.999))  # type: ignore[arg-type]
        loop = self._loop(options.teacher_steps, options.teacher_batch, 0)
        return self._trained(f"teacher-{process}", config, loop, None, 3.0 * options.teacher_batch * self.weights)

    def trained(self, contestant: Contestant, budget: float, seed: int) -> Trained:
        """A method of the table with its preset, for as many steps as the budget is worth."""
        assert contestant.method is not None
        preset = recipe(contestant.method, contestant.preset, contestant.process)

        weights = self.weights if contestant.network is None else _weights(contestant.network)

        def config_for(steps: int) -> MethodConfig:
            return fitted(preset, steps, weights)

        return self.trained_by(contestant, config_for, preset.batch_size, budget, seed)

    def trained_by(
        self,
        contestant: Contestant,
        config_for: Callable[[int], MethodConfig],
        batch_size: int,
        budget: float,
        seed: int,
    ) -> Trained:
        """Any config, given for a number of steps; the steps are those that the budget is worth."""
        own = contestant.network
        process = contestant.process if contestant.needs_teacher else None
        teacher_passes = self.teacher(contestant.process).numbers["passes"]
        assert teacher_passes is not None
        probed = Cell(
            f"cost-{contestant.text}",
            {"cost": 1, **self._identity(config_for(1000), self._loop(1000, batch_size, 0), process, own)},
        )
        step_cost = self.store.done(probed, lambda: {"step": self._probe(config_for, batch_size, process, own)})["step"]
        steps = steps_within(budget, teacher_passes, step_cost)
        loop = self._loop(steps, batch_size, seed)
        return self._trained(f"{contestant.text}-{seed}", config_for(steps), loop, process, step_cost, own)

    def examined(self, trained: Trained, process: str, sampler: str | None) -> Numbers:
        """Scores against the truth, distances to the teacher."""
        options = self.options
        identity = {
            "examination": 1, "weights": trained.digest, "sampler": sampler, "teacher": self.teacher(process).digest,
            "observations": options.observations, "draws": options.draws,
        }  # fmt: skip

        def make() -> dict[str, Any]:
            examination = Examination.make(options.observations, options.draws, seed=0)
            policy = load_policy(trained.folder, sampler)
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

        return self.store.done(Cell(f"examined-{trained.folder.name}-{sampler or 'own'}", identity), make)

    def latencies(self, policies: Sequence[tuple[Trained, str | None]]) -> list[float]:
        """See ``median_latencies``; measured once for a set of policies."""
        identity = {"latency": 1, "policies": [[trained.digest, sampler] for trained, sampler in policies]}

        def make() -> dict[str, Any]:
            loaded = [load_policy(trained.folder, sampler) for trained, sampler in policies]
            return {"medians_ms": median_latencies(loaded)}

        # measured whatever may be made: a table of what is finished has latencies too
        return list(CellStore(self.out).done(Cell("latency", identity), make)["medians_ms"])

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
        return _weights(self.options.network)

    def _identity(
        self, config: MethodConfig, loop: LoopConfig, process: str | None, own: NetworkConfig | None
    ) -> dict[str, Any]:
        options = self.options
        identity: dict[str, Any] = {
            "task": self.task,
            "method": method_to_json(config),
            "steps": loop.steps,
            "batch_size": loop.batch_size,
            "seed": loop.seed,
            "network": {name: value for name, value in network_to_json(options.network).items() if name != "kind"},
            "data": {"chunks": options.chunks, "seed": options.data_seed},
        }
        if process is not None:
            identity["teacher"] = self.teacher(process).digest
        if own is not None:  # cells of before there could be one say nothing of it
            identity["own_network"] = network_to_json(own)
        return identity

    def _trained(
        self,
        name: str,
        config: MethodConfig,
        loop: LoopConfig,
        process: str | None,
        step_cost: float,
        own: NetworkConfig | None = None,
    ) -> Trained:
        cell = Cell(name, self._identity(config, loop, process, own))
        folder = self.out / "policies" / self.store.stem(cell)

        def make() -> dict[str, Any]:
            network = network_for(config, own or self.options.network)
            method = self._method(config, loop.steps, loop.seed, process, network)
            result = fit(method, self.data, loop, self.out / "runs" / cell.stem, cell.identity)
            digest = save_policy(folder, self._policy(cell.stem, network, method, result))
            return {
                "weights_digest": digest,
                "numbers": {
                    "steps": loop.steps,
                    "wall_seconds": round(result.wall_seconds, 3),
                    "cpu_seconds": round(result.cpu_seconds, 3),
                    "passes": step_cost * loop.steps,
                },
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
        return build_method(config, Setting(steps, sampler.clip, untrained, teacher.denoiser, sampler, same))

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

    def _probe(
        self,
        config_for: Callable[[int], MethodConfig],
        batch_size: int,
        process: str | None,
        own: NetworkConfig | None,
    ) -> float:
        def build(steps: int) -> Method:
            config = config_for(steps)
            return self._method(config, steps, 0, process, network_for(config, own or self.options.network))

        return probe_cost(build, self.data.windows, self._loop(1000, batch_size, 0))

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


def _weights(network: NetworkConfig) -> int:
    return sum(p.numel() for p in build_denoiser(network, SPEC, CosineDdpm(), "eps").parameters())
