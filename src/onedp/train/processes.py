"""What processes of one training share: the joint batch, and the numbers that are logged of it."""

from __future__ import annotations

from collections.abc import Mapping

from accelerate import Accelerator
from torch import Tensor

from onedp.diffusion.draws import Share


def share_of(accelerator: Accelerator) -> Share:
    """The rows of every joint batch that belong to this process."""
    return Share(accelerator.process_index, accelerator.num_processes)


def joint_numbers(numbers: Mapping[str, Tensor], accelerator: Accelerator) -> Mapping[str, Tensor]:
    """Logged numbers of the joint batch; all processes must call.

    They are means over rows, except that names ending in ``_rms`` are roots of means.
    """
    if accelerator.num_processes == 1:
        return numbers
    means = {name: value.square() if name.endswith("_rms") else value for name, value in numbers.items()}
    means = accelerator.reduce(means, reduction="mean")
    return {name: value.sqrt() if name.endswith("_rms") else value for name, value in means.items()}
