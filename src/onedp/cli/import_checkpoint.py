"""``onedp import``: a policy that was trained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from onedp.errors import OneDPError


@dataclass(frozen=True)
class Import:
    """Turn a LeRobot or diffusion_policy checkpoint into a policy folder that acts the same and can be distilled."""

    checkpoint: tyro.conf.Positional[Path]
    """LeRobot folder of a diffusion policy (config.json, model.safetensors), or a .ckpt of diffusion_policy."""
    out: Path | None = None
    """Folder of the policy."""
    task: str | None = None
    """Task it belongs to, so that it can be evaluated here; without one it keeps its own names and needs --rate-hz."""
    rename: tuple[str, ...] = ()
    """THEIRS=OURS for each observation whose name differs; THEIRS=A,B cuts a vector into observations of the task."""
    rate_hz: float | None = None
    """Control rate [Hz]; default: the task's."""

    def run(self) -> None:
        """Read, convert, save."""
        if self.out is None:
            raise OneDPError("import needs --out, for example: onedp import outputs/pretrained_model --out teacher")
        from onedp.files import require_writable
        from onedp.importers.formats import read_foreign_policy
        from onedp.importers.imported import to_policy
        from onedp.machine import command_line
        from onedp.policy import save_policy
        from onedp.tasks import get_task

        require_writable(self.out / "spec.json")
        task = None if self.task is None else get_task(self.task)
        imported = read_foreign_policy(self.checkpoint)
        policy = to_policy(imported, self.out.name, task, self.task or "", self.rename, self.rate_hz)
        save_policy(self.out, replace(policy, provenance={**policy.provenance, "command": command_line()}))
        for note in imported.notes:
            print(f"Note: {note}")
        fields = ", ".join(f"{field.name} {field.shape}" for field in policy.spec.observations)
        print(f"Imported {policy.provenance['imported_from']} policy: {fields}; sampler {policy.sampler.label}.")
        rest = "" if task is not None else " --data FILE (zarr or npz with these fields)"
        print(f"Saved in {self.out}. Next: onedp distill {self.out} --out student{rest}")
