"""The model card of an exported policy, ``README.md`` in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onedp.backends.manifest import ExportManifest
from onedp.evaluate.scores import Scores
from onedp.timing_table import timing_table


def model_card(manifest: ExportManifest, parity: Mapping[str, Any], results: Scores | None) -> str:
    """Markdown: what it is, what it was trained on, what was measured, how to run it, what not to do."""
    sections = [
        f"# {manifest.name}, {manifest.sampler}",
        _what(manifest),
        "## Inputs and outputs\n\n" + _fields(manifest),
        "## Trained on\n\n" + training_section(manifest.provenance),
        "## Measured\n\n" + measured_section(manifest, parity, results),
        "## How to run it\n\n" + _how(manifest),
        "## What not to do\n\n" + WARNINGS,
    ]
    return "\n\n".join(sections) + "\n"


SAFETY_WARNINGS = """- Do not send its actions to a robot that has no limits on position and speed, and no stop, of
  its own.
- Do not use it on a task, robot, camera position or control rate other than the one above: it gives no sign of being
  out of its depth."""
WARNINGS = f"""{SAFETY_WARNINGS}
- Do not feed it normalised observations: physical units go in, in the order and at the rate given above.
- Do not reuse one noise array for every chunk, and do not leave out the noise where it is an input.
- Do not fine-tune the graph: go back to the policy folder it was exported from."""


def _what(manifest: ExportManifest) -> str:
    passes = "one network pass" if manifest.nfe == 1 else f"{manifest.nfe} network passes"
    task = f" for the task `{manifest.task}`" if manifest.task else ""
    return (
        f"A policy{task} as one graph, `{manifest.model}`: {passes} a chunk, "
        f"{manifest.parameters:,} weights, {manifest.precision}, normalisation and action limits inside. Exported from "
        f"weights with the SHA-256 `{manifest.weights_digest}`."
    )


def _fields(manifest: ExportManifest) -> str:
    spec = manifest.spec
    rows = [
        (field.name, ("B", spec.n_obs_steps, *field.shape), f"{field.unit}, oldest step first")
        for field in spec.observations
    ]
    if manifest.noise_shape[0]:
        rows.append(("noise", ("B", *manifest.noise_shape), "standard normal, fresh for every chunk"))
    limits = ", ".join(f"{low:g} to {high:g}" for low, high in zip(spec.action_low, spec.action_high, strict=True))
    rows.append(("chunk (output)", ("B", spec.chunk_length, spec.action_dim), f"{spec.action.unit}; limits {limits}"))
    table = "\n".join(f"| {name} | ({', '.join(map(str, shape))}) | {text} |" for name, shape, text in rows)
    return (
        f"| array (float32) | shape | unit |\n|---|---|---|\n{table}\n\n"
        f"Control rate {spec.rate_hz:g} Hz. The chunk starts at the newest observation; execute its first "
        f"{spec.n_action_steps} steps, then ask again.\n\n```\n{timing_table(spec)}\n```"
    )


def training_section(provenance: Mapping[str, Any]) -> str:
    """Data, teacher, cost and command, as far as the provenance says."""
    lines = []
    if isinstance(provenance.get("data_episodes"), int):
        lines.append(
            f"- {provenance['data_episodes']:,} episodes, {provenance.get('data_steps', 0):,} steps (data digest "
            f"`{str(provenance.get('data_digest'))[:16]}`)"
        )
    teacher = provenance.get("teacher")
    if isinstance(teacher, Mapping):
        lines.append(f"- distilled from `{teacher.get('name')}` (weights `{str(teacher.get('weights_digest'))[:16]}`)")
    if provenance.get("training_seconds") is not None:
        lines.append(f"- {provenance['training_seconds']:,} s on {provenance.get('cpu', 'an unnamed processor')}")
    if provenance.get("command"):
        lines.append(f"- `{provenance['command']}`")
    return "\n".join(lines) or "The policy's provenance does not say."


def measured_section(
    manifest: ExportManifest,
    parity: Mapping[str, Any],
    results: Scores | None,
    timing: str = "`onedp latency FOLDER`",
) -> str:
    """Parity, scores and latency; ``timing`` says how to measure the latter elsewhere."""
    real = parity["recorded_observations"]
    same = "Same actions as" if manifest.gate is None else "Reduced precision moves actions from those of"
    lines = [
        f"- {same} the PyTorch policy: largest difference {parity['largest_distance']:.1e} of half the action "
        f"range (accepted: {parity['tolerance']:g}), on random inputs and "
        + (f"recorded ones ({real})" if real else "no recorded ones, since none were given")
        + "; details in `parity.json`."
    ]
    if manifest.gate is not None:
        gate = manifest.gate
        lines.append(
            f"- Against the same policy in float32, {gate['measure']} is {gate['value']:+.4f} "
            f"[{gate['ci95'][0]:+.4f}, {gate['ci95'][1]:+.4f}] over {gate['cases']} (95 % interval; accepted up to "
            f"{gate['limit']:+g})."
        )
    if results is None:
        lines.append("- Scores: none were given at export (`onedp export --results RESULT.json`).")
    else:
        lines += score_lines(results)
    measured = "".join(f"{runtime} {p50:.2f} ms, " for runtime, p50 in parity["latency_ms_p50"].items())
    when = f"when it was exported, batch 1, one thread of {parity['cpu']}: {measured}" if measured else ""
    lines.append(f"- Latency {when}measure it on the machine that counts: {timing}.")
    return "\n".join(lines)


def score_lines(results: Scores) -> list[str]:
    """Score and success, with what they were measured on."""
    return [
        f"- In PyTorch, task `{results.task}`, on {results.episodes:,} starts from seed {results.first_seed}: score "
        f"{results.score_mean:.3f} {_interval(results.score_ci95)}, success {results.success_rate:.3f} "
        f"{_interval(results.success_ci95)} (95 % intervals)."
    ]


def _interval(ends: Any) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def _how(manifest: ExportManifest) -> str:
    extra = "robot" if manifest.model.endswith(".onnx") else "openvino"
    return f"""`pip install 'onedp[{extra}]'` (no PyTorch needed), then:

```python
import numpy as np

from onedp.backends import load_backend
from onedp.types import episode_noise

policy = load_backend("FOLDER")  # checks the digest and the first answer
obs = policy.spec.fake_observation(batch=1, rng=np.random.default_rng(0))  # yours: {{name: (1, {
        manifest.spec.n_obs_steps
    }, ...)}}, physical units
noise = episode_noise(seed=0, chunk=0, noise_shape=policy.noise_shape)[None]  # count chunk up
chunk = policy.infer(obs, noise)
```"""
