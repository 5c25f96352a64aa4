"""What is compared, as written on the command line. Torch-free.

``[PROCESS/]METHOD[:PRESET][+NETWORK][@SAMPLER]`` is a method of the table trained from the teacher of that process,
``ddpm``, ``edm`` or ``flow`` (or from the demonstrations, if it needs none), with the teacher's network or the one
named (as ``onedp distill --network``), acting with a sampler of its own or the one named; ``[PROCESS/]SAMPLER`` is the
teacher itself. Examples: onedp-s, onedp-s:paper, onedp-s+mlp, edm/onedp-s, ddim:10, heun:18, edm/one-step, flow/onedp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onedp.errors import OneDPError, unknown_choice
from onedp.methods.table import METHODS, recipe
from onedp.nets.config import NETWORK_SIZES, NetworkConfig

PROCESSES = ("ddpm", "edm", "flow")
TEACHER_SAMPLERS = {"ddpm": "ddpm", "ddim": "ddpm", "heun": "edm", "euler": "flow", "one-step": "ddpm"}
"""Samplers that a teacher's row may name, and the process that is meant when none is."""


@dataclass(frozen=True)
class Contestant:
    """One row, or with several budgets one for each."""

    text: str
    """As it was written; the row's name."""
    process: str
    """Noise process of the teacher."""
    method: str | None
    """Name in the table of methods; None for the teacher itself."""
    preset: str
    sampler: str | None
    """None: the one the method gives its policy."""
    network: NetworkConfig | None = None
    """The policy's own; None: the teacher's."""

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher must be there first."""
        return self.method is None or METHODS[self.method].teacher

    @classmethod
    def parse(cls, text: str) -> Contestant:
        """Read one; raises ``OneDPError`` with the valid names."""
        rest, process = text, None
        if "/" in text:
            process, _, rest = text.partition("/")
            if process not in PROCESSES:
                raise OneDPError(unknown_choice("noise process", process, PROCESSES) + f" (in '{text}')")
        name, _, sampler = rest.partition("@")
        name, _, network = name.partition("+")
        name, _, preset = name.partition(":")
        if name in METHODS:
            recipe(name, preset or "small")  # a preset that is not there is an error now, not in an hour
            own = _network(network, name) if "+" in rest.partition("@")[0] else None
            return cls(text, process or PROCESSES[0], name, preset or "small", sampler or None, own)
        if name in TEACHER_SAMPLERS and not {"@", "+"} & set(rest):
            return cls(text, process or TEACHER_SAMPLERS[name], None, "", rest)
        raise OneDPError(
            unknown_choice("contestant", rest, [*METHODS, *TEACHER_SAMPLERS])
            + " Write a method (onedp-s, onedp-s:paper, onedp-s+mlp, edm/onedp-s, flow/onedp) or a sampler of the "
            "teacher (ddim:10, heun:18, euler:10)."
        )


def _network(name: str, method: str) -> NetworkConfig:
    if name not in NETWORK_SIZES:
        raise OneDPError(unknown_choice(f"network of {method}", name, NETWORK_SIZES))
    network, kind = NETWORK_SIZES[name], METHODS[method].preset.config.kind
    if getattr(network, "only_method", kind) != kind:
        raise OneDPError(f"The network '{name}' is no denoiser; {method} cannot train it. Leave out +{name}.")
    return network


def parse_contestants(texts: Sequence[str]) -> tuple[Contestant, ...]:
    """All of a comma-separated or repeated option, in order; raises ``OneDPError`` on none and on doubles."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not names:
        raise OneDPError("There is nothing to compare. Name methods and samplers: --methods onedp-s,onedp-d,ddim:10")
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise OneDPError(f"{', '.join(doubles)} is named twice.")
    return tuple(Contestant.parse(name) for name in names)
