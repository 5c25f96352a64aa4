"""``onedp distill``: a teacher to a one-step student."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from onedp.cli.resume import only_resume
from onedp.data.config import ReadingConfig
from onedp.errors import OneDPError
from onedp.methods.config import OptimizerConfig
from onedp.methods.presets import PresetName, preset
from onedp.train.config import LoopConfig, StudentRun


@dataclass(frozen=True)
class Distill:
    """Distil a teacher into a generator that answers in one network pass (OneDP). Needs observations, never actions."""

    teacher: tyro.conf.Positional[str] = ""
    """Folder of the teacher, or the name of a shipped one (pusht-keypoints-ddpm, pusht-keypoints-edm)."""
    method: Literal["onedp-s", "onedp-d"] = "onedp-s"
    """onedp-s: stochastic, keeps the teacher's modes; onedp-d: deterministic, half the cost a step."""
    data: Path | None = None
    """Observations to distil on (any format train reads; actions are ignored); default: those the package ships."""
    reading: Annotated[ReadingConfig, tyro.conf.arg(name="")] = field(default_factory=ReadingConfig)
    loader_threads: int = 2
    """Threads that read pictures ahead."""
    out: Path | None = None
    """Folder of the run; the policy is saved in it as policy/."""
    resume: Path | None = None
    """Continue the run in this folder exactly where its newest checkpoint is; all other options come from it."""
    preset: PresetName = "small"
    """small: for networks of a few million weights; paper: the paper's rates and phases."""
    steps: int | None = None
    """Training steps in all; None: the preset's. Regression and warm-up keep their share."""
    batch_size: int | None = None
    """Windows per update; None: the preset's."""
    lr: float | None = None
    """Generator's learning rate; None: the preset's."""
    tracker_lr: float | None = None
    """Generator score network's learning rate (onedp-s); None: the preset's."""
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

    def student_run(self, data: Path) -> StudentRun:
        """The run these options describe."""
        recipe = preset(self.preset, "s" if self.method == "onedp-s" else "d")
        config, steps = recipe.config, recipe.steps if self.steps is None else self.steps
        share = steps / recipe.steps
        config = replace(
            config,
            generator=_with_lr(config.generator, self.lr),
            tracker=_with_lr(config.tracker, self.tracker_lr),
            regression_steps=math.floor(config.regression_steps * share),  # a step is left for matching, however few
            regression_pairs=math.ceil(config.regression_pairs * share),
            tracker_warmup=math.floor(config.tracker_warmup * share),
        )
        loop = LoopConfig(
            steps=steps,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            seed=self.seed,
            mixed_precision=self.mixed_precision,
            cpu=self.cpu,
            threads=self.threads,
            tracker=self.tracker,
            checkpoint_every=self.checkpoint_every,
            loader_threads=self.loader_threads,
            diagnose_every=max(50, steps // 5),
        )
        return StudentRun(teacher=self.teacher, data=data, method=config, loop=loop, reading=self.reading)

    def run(self) -> None:
        """Distil, or continue."""
        if self.resume is None and (not self.teacher or self.out is None):
            raise OneDPError(
                "distill needs a TEACHER and --out, for example: onedp distill pusht-keypoints-ddpm "
                "--method onedp-s --out runs/student (or --resume DIR)."
            )
        from accelerate import PartialState

        from onedp.shipped import shipped_observations
        from onedp.train.run import distill_student, new_run_folder, resume_run

        if self.resume is not None:
            only_resume(self)
            resume_run(self.resume, "StudentRun")
            out = self.resume
        else:
            assert self.out is not None  # checked above
            new_run_folder(self.out)
            distill_student(self.student_run(self.data or shipped_observations(self.teacher)), self.out)
            out = self.out
        PartialState().print(f"Student saved in {out / 'policy'}. Next: onedp evaluate {out} --json student.json")


def _with_lr(config: OptimizerConfig, lr: float | None) -> OptimizerConfig:
    return config if lr is None else replace(config, lr=lr)
