"""``onedp train``: demonstrations to a policy, a diffusion-policy teacher unless another method is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from onedp.cli.resume import only_resume
from onedp.data.config import NormalizationMode, ReadingConfig, RecordedConfig
from onedp.errors import OneDPError
from onedp.methods.config import DenoisingConfig
from onedp.methods.presets import fitted
from onedp.methods.table import method_entry, method_help
from onedp.nets.config import NETWORK_SIZES, EncoderName, NetworkName
from onedp.train.config import LoopConfig, TeacherRun


@dataclass(frozen=True)
class Train:
    """Train a policy on demonstrations: a diffusion policy (the teacher), or a method that needs no teacher."""

    task: str = "pusht-keypoints"
    """Task of the table (pusht-keypoints, pusht-state, pusht-image), my_module:my_task, or recorded: whatever the data
    set holds, without an environment."""
    data: Path | None = None
    """Demonstrations: diffusion_policy zarr (folder or zip), npz, LeRobot folder, robomimic HDF5, or hub:OWNER/NAME."""
    method: Annotated[str, tyro.conf.arg(help=method_help(teacher=False))] = "denoising"
    process: Literal["ddpm", "edm"] | None = None
    """Noise process of the method denoising; None: ddpm."""
    network: NetworkName | None = None
    """Diffusion Policy's 1-D U-Net with 1.4, 2.6, 4.5, 17 or 65 M weights, a residual MLP, a transformer (DiT), or the
    one of the method act; None: unet-small, for act its own."""
    encoder: EncoderName | None = None
    """What reads the observations: state (as they are), light or resnet18 (pictures), points (point clouds); None: what
    the task's observations need."""
    out: Path | None = None
    """Folder of the run; the policy is saved in it as policy/."""
    resume: Path | None = None
    """Continue the run in this folder exactly where its newest checkpoint is; all other options come from it."""
    normalization: NormalizationMode = "min_max"
    """How observations and actions are scaled: to [-1, 1], or to mean 0 and deviation 1."""
    crop: tuple[int, int] | None = None
    """Height and width of the part of a picture that is looked at, random in training; None: 7/8 of it."""
    reading: Annotated[ReadingConfig, tyro.conf.arg(name="")] = field(default_factory=ReadingConfig)
    recorded: Annotated[RecordedConfig, tyro.conf.arg(name="")] = field(default_factory=RecordedConfig)
    loader_threads: int = 2
    """Threads that read pictures ahead."""
    mirror: bool = False
    """Train on mirror images of the demonstrations too, for tasks that look the same in a mirror (Push-T does)."""
    steps: int | None = None
    """Training steps; None: the method's (20,000 for denoising)."""
    batch_size: int | None = None
    """Windows per step; None: the method's (256 for denoising)."""
    lr: float | None = None
    """Peak learning rate; None: the method's (1e-3 for denoising)."""
    noise_draws: int = 1
    """How often each chunk of a batch is noised, while its observation is encoded once: 4 or 8 make more of pictures
    (denoising and flow-matching)."""
    seed: int = 0
    """Seed of weights, data order and noise."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16 autocast, for GPUs and for CPUs with bf16 units."""
    cpu: bool = False
    """Stay on the CPU even where there is a GPU."""
    threads: int | None = None
    """CPU threads."""
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"
    """Experiment tracker, through accelerate."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""

    def teacher_run(self, data: Path) -> TeacherRun:
        """The run these options describe."""
        preset = method_entry(self.method, teacher=False).preset
        steps = preset.steps if self.steps is None else self.steps
        config = fitted(preset, steps, lr=self.lr)
        if self.process is not None:
            if self.method != "denoising" or not isinstance(config, DenoisingConfig):
                raise OneDPError(f"The method {self.method} has a noise process of its own; leave out --process.")
            config = replace(config, process=self.process)
        if self.noise_draws != 1:
            if not isinstance(config, DenoisingConfig):
                raise OneDPError(f"The method {self.method} noises no chunks; leave out --noise-draws.")
            config = replace(config, noise_draws=self.noise_draws)
        return TeacherRun(
            task=self.task,
            data=data,
            method=config,
            network=NETWORK_SIZES[self.network or config.default_network],
            normalization=self.normalization,
            mirror=self.mirror,
            reading=self.reading,
            recorded=self.recorded,
            encoder=self.encoder,
            crop=self.crop,
            loop=LoopConfig(
                steps=steps,
                batch_size=preset.batch_size if self.batch_size is None else self.batch_size,
                seed=self.seed,
                mixed_precision=self.mixed_precision,
                cpu=self.cpu,
                threads=self.threads,
                tracker=self.tracker,
                checkpoint_every=self.checkpoint_every,
                loader_threads=self.loader_threads,
            ),
        )

    def run(self) -> None:
        """Train, or continue."""
        if self.resume is None and (self.data is None or self.out is None):
            raise OneDPError(
                "train needs --data and --out, for example: onedp train --task pusht-keypoints "
                "--data pusht_cchi_v7_replay.zarr.zip --process ddpm --out runs/teacher (or --resume DIR)."
            )
        from accelerate import PartialState

        from onedp.train.run import new_run_folder, resume_run, train_teacher

        if self.resume is not None:
            only_resume(self)
            resume_run(self.resume, "TeacherRun")
            out, data = self.resume, "DATA"
        else:
            assert self.data is not None
            assert self.out is not None
            new_run_folder(self.out)
            train_teacher(self.teacher_run(self.data), self.out)
            out, data = self.out, str(self.data)
        PartialState().print(
            f"Policy saved in {out / 'policy'}. Next: onedp distill {out} --data {data} --out runs/student"
        )
        PartialState().destroy_process_group()
