"""What ``onedp inspect`` prints of a folder of ``onedp export``. Torch-free: exports are looked at on robots."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from onedp.backends.manifest import ExportManifest, check_export_files, read_export_manifest
from onedp.backends.runtimes import RUNTIMES
from onedp.cli.console import make_console
from onedp.cli.inspect_policy import print_fields, print_timing
from onedp.errors import ArtifactError
from onedp.typed_json import read_json_object

PARITY_FILE = "parity.json"


def inspect_export(folder: Path) -> None:
    """Print the export; raises ``ArtifactError`` when something is missing or damaged, a file's digest included."""
    console = make_console()
    manifest = read_export_manifest(folder)
    problem: ArtifactError | None = None
    try:
        check_export_files(folder, manifest)
    except ArtifactError as error:
        problem = error  # what can be said is said before it ends the command
        console.print(f"DAMAGED: {error}", style="bold red", soft_wrap=True)
    _print_overview(console, folder, manifest, intact=problem is None)
    if (folder / PARITY_FILE).is_file():
        _print_parity(console, folder / PARITY_FILE)
    if manifest.gate is not None:
        console.print("Gate of the reduced precision", style="bold")
        console.print(json.dumps(dict(manifest.gate), indent=2), soft_wrap=True)
    print_fields(console, manifest.spec)
    print_timing(console, manifest.spec)
    console.print("Provenance", style="bold")
    console.print(json.dumps(dict(manifest.provenance), indent=2), soft_wrap=True)
    if problem is not None:
        raise problem


def _print_overview(console: Console, folder: Path, manifest: ExportManifest, intact: bool) -> None:
    sizes = {name: (folder / name).stat().st_size for name in manifest.files if (folder / name).is_file()}
    listed = ", ".join(f"{name} ({sizes[name]:,} bytes)" if name in sizes else name for name in manifest.files)
    console.print(str(folder), style="bold")
    console.print(f"export of         {manifest.name}, weights with the digest {manifest.weights_digest[:16]}...")
    console.print(f"runs in           {_runs_in(manifest)}")
    console.print(f"task              {manifest.task or 'none of onedp'}")
    console.print(f"precision         {manifest.precision}")
    console.print(f"parameters        {manifest.parameters:,}")
    console.print(f"sampler           {manifest.sampler}, part of the graph")
    console.print(f"network passes    {manifest.nfe} a chunk")
    console.print(f"files             {listed}", soft_wrap=True)
    console.print(f"digests           {'all files are those that were exported' if intact else 'NOT as exported'}")


def _runs_in(manifest: ExportManifest) -> str:
    """The runtimes that read and compute it, and which of them are here."""
    names = [
        f"{name}{'' if runtime.installed else ' (not installed)'}"
        for name, runtime in RUNTIMES.items()
        if Path(manifest.model).suffix in runtime.suffixes and manifest.precision in runtime.precisions
    ]
    return ", ".join(names) or "LeRobot"


def _print_parity(console: Console, path: Path) -> None:
    """What the exporter measured against the policy itself; raises ``ArtifactError``."""
    report = read_json_object(path)
    try:
        console.print(
            f"parity            largest difference to the policy {report['largest_distance']:.1e} of half the action "
            f"range, accepted {report['tolerance']:g}; far outside the training data "
            f"{report['largest_distance_wide']:.1e}, accepted {report['tolerance_wide']:g}; {len(report['rows'])} "
            f"checks in {', '.join(sorted({row['runtime'] for row in report['rows']}))}",
            soft_wrap=True,
        )
        latencies = [f"{name} {ms:g} ms" for name, ms in report["latency_ms_p50"].items()]
        if latencies:
            console.print(f"latency then      {', '.join(latencies)} a chunk on {report['cpu']}")
        console.print()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is not the report of onedp export ({type(error).__name__}: {error}). Export the policy again."
        ) from error
