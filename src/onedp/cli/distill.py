"""``onedp distill``: a teacher to a one-step student."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from onedp.cli.resume import only_resume
from onedp.data.config import ReadingConfig
from onedp.errors import OneDPError
from onedp.methods.config import MethodConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.presets import fitted
from onedp.methods.table import method_entry, method_help, recipe, recipe_note
from onedp.nets.config import NETWORK_SIZES, NetworkName
from onedp.train.config import LoopConfig, StudentRun


@dataclass(frozen=True)
class Distill:
    """Distil a teacher into a generator that answers in one network pass (OneDP). Needs observations, never actions."""

    teacher: tyro.conf.Positional[str] = ""
    """Folder of the teacher, or the name of a shipped one (pusht-keypoints-ddpm, pusht-keypoints-edm)."""
    method: Annotated[str, tyro.conf.arg(help=method_help(teacher=True))] = "onedp"
    parameterization: Literal["teacher", "x0"] = "teacher"
    """What the student's network predicts: what its teacher's does, or x0, the clean actions (for export --to lerobot;
    needs the preset small of onedp, whose regression teaches it that)."""
    data: Path | None = None
    """Observations to distil on (any format train reads; actions are ignored); default: those the package ships."""
    beside: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A recording whose observations are added to these, such as what onedp record kept of a student's lost episodes.
    Repeat it for more."""
    lost: bool = True
    """Without --data: also the episodes that an earlier student lost, where the package ships such (Push-T keypoints,
    DDPM)."""
    reading: Annotated[ReadingConfig, tyro.conf.arg(name="")] = field(default_factory=ReadingConfig)
    loader_threads: int = 2
    """Threads that read pictures ahead."""
    out: Path | None = None
    """Folder of the run; the policy is saved in it as policy/."""
    resume: Path | None = None
    """Continue the run in this folder exactly where its newest checkpoint is; all other options come from it."""
    preset: Literal["small", "paper"] = "small"
    """small: for networks of a few million weights, rates scaled for larger ones; paper: the paper's rates and phases
    (onedp, onedp-s and onedp-d)."""
    network: NetworkName | None = None
    """The student's network; None: the teacher's. Another one starts untrained."""
    steps: int | None = None
    """Training steps in all; None: the preset's. Regression and warm-up keep their share."""
    patience: int | None = None
    """Stop when the student came no nearer to its teacher in so many diagnoses in a row (energy distance on held-out
    observations, 20 times in a run, in the last phase of the recipe), and keep the best; None: take every step."""
    batch_size: int | None = None
    """Windows per update; None: the preset's."""
    lr: float | None = None
    """Generator's learning rate; None: the preset's."""
    tracker_lr: float | None = None
    """Generator score network's learning rate (onedp, onedp-s); None: the preset's."""
    regression_lr: float | None = None
    """Learning rate of the regression that comes first (onedp, onedp-s); None: the preset's. On Push-T at a tenth of
    the teacher's training half of it finished more often (docs/measured.md)."""
    seed: int = 0
    """Seed of data order and noise."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16 autocast, for GPUs and for CPUs with bf16 units."""
    cpu: bool = False
    """Stay on the CPU even where there is a GPU."""
    threads: int | None = None
    """CPU threads."""
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"
    """Experiment tracker, through accelerate."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""

    def student_run(self, data: Path, weights: int | None = None, process: str | None = None) -> StudentRun:
        """The run these options describe.

        ``weights``: those of the student (None: a few million); ``process``: noise process of the teacher (None: DDPM).
        """
        method_entry(self.method, teacher=True)
        preset = recipe(self.method, self.preset, process)
        steps = preset.steps if self.steps is None else self.steps
        network = None if self.network is None else NETWORK_SIZES[self.network]
        config = self._with_choices(fitted(preset, steps, weights, self.lr))
        loop = LoopConfig(
            steps=steps,
            batch_size=preset.batch_size if self.batch_size is None else self.batch_size,
            seed=self.seed,
            mixed_precision=self.mixed_precision,
            cpu=self.cpu,
            threads=self.threads,
            tracker=self.tracker,
            checkpoint_every=self.checkpoint_every,
            loader_threads=self.loader_threads,
            diagnose_every=max(50, steps // 5),
            patience=self.patience,
        )
        return StudentRun(
            teacher=self.teacher,
            data=data,
            method=config,
            loop=loop,
            network=network,
            reading=self.reading,
            beside=self.beside,
        )

    def _with_choices(self, config: MethodConfig) -> MethodConfig:
        """The recipe with what these options change in it; raises ``OneDPError`` where it has no such choice."""
        if self.tracker_lr is not None:
            if not isinstance(config, OneDpConfig) or config.variant != "s":
                raise OneDPError(f"The method {self.method} has no generator score network; leave out --tracker-lr.")
            config = replace(config, tracker=replace(config.tracker, lr=self.tracker_lr))
        if self.regression_lr is not None:
            if not isinstance(config, OneDpConfig) or not config.regression_steps:
                raise OneDPError(
                    f"The method {self.method} with preset {self.preset} has no regression before its own training; "
                    "leave out --regression-lr. The rate of that training is --lr."
                )
            config = replace(config, regression=replace(config.regression, lr=self.regression_lr))
        if self.parameterization != "teacher":
            if not isinstance(config, OneDpConfig):
                raise OneDPError(f"The method {self.method} has no choice of --parameterization; OneDP's have.")
            config = replace(config, parameterization=self.parameterization)
        return config

    def run(self) -> None:
        """Distil, or continue."""
        if self.resume is None and (not self.teacher or self.out is None):
            raise OneDPError(
                "distill needs a TEACHER and --out, for example: onedp distill pusht-keypoints-ddpm "
                "--out runs/student (or --resume DIR)."
            )
        from accelerate import PartialState

        from onedp.shipped import distillation_data
        from onedp.train.run import distill_student, new_run_folder, resume_run

        if self.resume is not None:
            only_resume(self)
            resume_run(self.resume, "StudentRun")
            out = self.resume
        else:
            assert self.out is not None  # checked above
            new_run_folder(self.out)
            data, lost = distillation_data(self.teacher, self.data, self.lost)
            process = self.teacher_process()
            run = self.student_run(data, self._student_weights(), process)
            run = replace(run, beside=(*lost, *self.beside))
            for file in lost:
                PartialState(cpu=self.cpu).print(
                    f"With episodes that an earlier student lost ({file.name}; --no-lost)."
                )
            if note := recipe_note(self.method, process):
                PartialState(cpu=self.cpu).print(note)
            distill_student(run, self.out)
            out = self.out
        PartialState().print(f"Student saved in {out / 'policy'}. Next: onedp evaluate {out} --json student.json")
        PartialState().destroy_process_group()

    def teacher_process(self) -> str:
        """Kind of the teacher's noise process, which some recipes depend on."""
        from onedp.artifact import read_manifest, resolve_artifact

        return str(read_manifest(resolve_artifact(self.teacher)).process.get("kind"))

    def _student_weights(self) -> int:
        """Number of weights of the student, which decides its rates."""
        from onedp.artifact import resolve_artifact, weight_count
        from onedp.train.run import network_weights

        teacher = resolve_artifact(self.teacher)
        return weight_count(teacher) if self.network is None else network_weights(NETWORK_SIZES[self.network], teacher)
