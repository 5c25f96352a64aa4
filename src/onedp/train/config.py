"""Everything that defines a run. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from onedp.data.config import NormalizationMode, ReadingConfig, RecordedConfig
from onedp.errors import OneDPError
from onedp.methods.config import MethodConfig
from onedp.nets.config import EncoderConfig, EncoderName, NetworkConfig


@dataclass(frozen=True)
class LoopConfig:
    """How long, on what and how often; the same for every method."""

    steps: int
    """Training steps."""
    batch_size: int = 256
    """Windows per update, over all processes."""
    seed: int = 0
    """Seed of the initial weights, the data order and every draw."""
    log_every: int = 100
    """Steps between lines of metrics.jsonl."""
    diagnose_every: int = 1000
    """Steps between diagnostics on held-out windows."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the newest is kept."""
    patience: int | None = None
    """Diagnoses in a row that may bring nothing before the run stops and keeps its best result; None: it runs to its
    last step and keeps that."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16 autocast; helps on GPUs and on CPUs with bf16 units, hurts on others."""
    cpu: bool = False
    """Train on the CPU even where there is a GPU."""
    threads: int | None = None
    """CPU threads of PyTorch; None leaves its default."""
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"
    """Experiment tracker through accelerate, beside metrics.jsonl."""
    loader_threads: int = 2
    """Threads that read pictures ahead; 0: the loop reads them itself. Changes no number."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "diagnose_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise OneDPError(f"{name} must be at least 1, it is {getattr(self, name)}.")
        if self.patience is not None and self.patience < 1:
            raise OneDPError(f"patience must be at least 1, it is {self.patience}.")
        if self.loader_threads < 0:
            raise OneDPError(f"loader_threads must be at least 0, it is {self.loader_threads}.")


@dataclass(frozen=True)
class TeacherRun:
    """A training on demonstrations, without a teacher."""

    task: str
    """Task of the table, or module:attribute."""
    data: Path
    """Demonstrations."""
    method: MethodConfig
    """Any method of the table that needs no teacher."""
    network: NetworkConfig
    loop: LoopConfig
    normalization: NormalizationMode = "min_max"
    """How observations and actions are scaled."""
    mirror: bool = False
    """Train on the demonstrations and their mirror images."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """How the data set is read."""
    recorded: RecordedConfig = field(default_factory=RecordedConfig)
    """Which of its arrays feed which fields, and what its actions mean."""
    encoder: EncoderConfig | EncoderName | None = None
    """What reads the observations; None: what they need. Its crop is random in training."""
    crop: tuple[int, int] | None = None
    """Height and width of that crop, for an encoder given by name or not at all; None: the usual one."""


@dataclass(frozen=True)
class StudentRun:
    """A distillation."""

    teacher: str
    """Folder of the teacher, or the name of a shipped one."""
    data: Path
    """Observations to distil on; actions in it are not looked at."""
    method: MethodConfig
    """Any method of the table that distils."""
    loop: LoopConfig
    network: NetworkConfig | None = None
    """The student's network; None: the teacher's."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """How the data set is read; its split is of ``data`` alone."""
    beside: tuple[Path, ...] = ()
    """Further recordings, whose observations come after those of ``data``."""
