"""What ``onedp inspect`` prints of a policy folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from onedp.artifact import Manifest, read_manifest, read_weights
from onedp.cli.console import make_console, make_table
from onedp.errors import ArtifactError
from onedp.timing_table import timing_table
from onedp.types import PolicySpec


def inspect_policy(folder: Path) -> None:
    """Print the policy; raises ``ArtifactError`` when something is missing or damaged, the weights' digest included."""
    console = make_console()
    manifest = read_manifest(folder)
    problem: ArtifactError | None = None
    n_weights = "?"
    try:
        n_weights = f"{sum(value.size for value in read_weights(folder, manifest).values()):,}"
    except ArtifactError as error:
        problem = error  # what can be said is said before it ends the command
        console.print(f"DAMAGED: {error}", style="bold red", soft_wrap=True)
    _print_overview(console, folder, manifest, n_weights)
    print_fields(console, manifest.spec)
    print_timing(console, manifest.spec)
    _print_normalization(console, manifest)
    console.print("Provenance", style="bold")
    console.print(json.dumps(dict(manifest.provenance), indent=2), soft_wrap=True)
    if problem is not None:
        raise problem


def _print_overview(console: Console, folder: Path, manifest: Manifest, n_weights: str) -> None:
    weights = folder / "weights.safetensors"
    size = f"{weights.stat().st_size:,} bytes" if weights.is_file() else "missing"
    console.print(str(folder), style="bold")
    console.print(f"task              {manifest.task}")
    console.print(f"network           {_flat(manifest.network)}")
    console.print(f"encoder           {_flat(manifest.encoder)}")
    console.print(f"weights           {n_weights} ({size})")
    console.print(f"process           {_flat(manifest.process)}")
    console.print(f"parameterization  {manifest.parameterization}")
    console.print(f"sampler           {_flat(manifest.sampler)}")
    console.print(f"network passes    {_nfe(manifest.sampler)} a chunk\n")


def _flat(part: Mapping[str, Any]) -> str:
    """``kind (a 1, b 2)``."""
    rest = ", ".join(f"{key} {value}" for key, value in part.items() if key != "kind")
    return f"{part.get('kind', 'unnamed')}" + (f" ({rest})" if rest else "")


def _nfe(sampler: Mapping[str, Any]) -> str:
    """Network passes per chunk. The samplers need torch, so their rule is repeated here; a test compares the two."""
    kind, steps = sampler.get("kind"), sampler.get("steps")
    if kind == "one-step":
        return "1"
    if kind == "consistency" and isinstance(sampler.get("levels"), (list, tuple)):
        return str(len(sampler["levels"]))
    if not isinstance(steps, int):
        return "unknown"
    return str(2 * steps - 1 if kind == "heun" else steps)


def print_fields(console: Console, spec: PolicySpec) -> None:
    """What goes in and what comes out, with units and limits."""
    table = make_table("Fields", "role", "name", ">each step", "unit", "type", "limits")
    for field in spec.observations:
        table.add_row("observation", field.name, str(field.shape), field.unit, field.dtype, "")
    limits = ", ".join(f"{low:g} to {high:g}" for low, high in zip(spec.action_low, spec.action_high, strict=True))
    table.add_row("action", spec.action.name, str(spec.action.shape), spec.action.unit, spec.action.dtype, limits)
    console.print(table)


def print_timing(console: Console, spec: PolicySpec) -> None:
    """Which steps are observed, predicted and executed."""
    console.print(
        f"timing at {spec.rate_hz:g} Hz (step 0 is the newest observation): {spec.n_obs_steps} observed, "
        f"{spec.horizon} predicted, {spec.n_action_steps} executed"
    )
    console.print(timing_table(spec), soft_wrap=True)


def _print_normalization(console: Console, manifest: Manifest) -> None:
    table = make_table("Normalisation", "field", "mode", ">dimension", ">min", ">max", ">mean", ">std", "note")
    for name, stats in manifest.normalizer.stats.items():
        constant = manifest.normalizer.constant_dimensions(name)
        rows = zip(*(part.reshape(-1) for part in (stats.min, stats.max, stats.mean, stats.std)), strict=True)
        for index, numbers in enumerate(rows):
            first = (name, manifest.normalizer.modes[name]) if index == 0 else ("", "")
            note = "constant in the training data" if index in constant else ""
            table.add_row(*first, str(index), *(f"{x:.5g}" for x in numbers), note)
        table.add_section()
    console.print(table)
