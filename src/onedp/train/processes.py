"""What processes of one training share: the joint batch, and the numbers that are logged of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

from accelerate import Accelerator
from torch import Tensor

from onedp.diffusion.draws import Share


def share_of(accelerator: Accelerator) -> Share:
    """The rows of every joint batch that belong to this process."""
    return Share(accelerator.process_index, accelerator.num_processes)


def announce(accelerator: Accelerator, batch_size: int) -> None:
    """Say how many processes train together where there are several; warn where a launch of several made but one."""
    processes = accelerator.num_processes
    if processes > 1:
        rows = batch_size // processes
        accelerator.print(f"Training with {processes} processes, each with {rows} of the {batch_size} rows of a batch.")
    elif launch_made_one(os.environ):
        warnings.warn(
            "accelerate launch was asked for several processes and made one, as it does without a second GPU. For "
            "several on CPUs: accelerate launch --multi_gpu --num_processes N -m onedp.cli.main VERB --cpu ...",
            stacklevel=2,
        )


def launch_made_one(environment: Mapping[str, str]) -> bool:
    """Whether accelerate's launcher was asked for several processes and started this one alone.

    Its launcher of one process then leaves a meeting point in the environment, but no rank.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment
    return launched and "LOCAL_RANK" not in environment


def joint_numbers(numbers: Mapping[str, Tensor], accelerator: Accelerator) -> Mapping[str, Tensor]:
    """Logged numbers of the joint batch; all processes must call.

    They are means over rows, except that names ending in ``_rms`` are roots of means.
    """
    if accelerator.num_processes == 1:
        return numbers
    means = {name: value.square() if name.endswith("_rms") else value for name, value in numbers.items()}
    means = accelerator.reduce(means, reduction="mean")
    return {name: value.sqrt() if name.endswith("_rms") else value for name, value in means.items()}
