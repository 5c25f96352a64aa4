"""When a policy observes, predicts and executes, for people to read."""

from __future__ import annotations

from onedp.types import PolicySpec


def timing_table(spec: PolicySpec) -> str:
    """Which steps are observed, predicted and executed, as text; step 0 is the newest observation."""
    steps = range(1 - spec.n_obs_steps, spec.chunk_length)
    rows = {
        "step": [str(step) for step in steps],
        "observed": ["o" if step <= 0 else "" for step in steps],
        "predicted": ["p"] * len(steps),
        "executed": ["x" if index in spec.executed_steps else "" for index in range(spec.horizon)],
    }
    return "\n".join(f"{name:<10}" + "".join(f"{cell:>4}" for cell in cells) for name, cells in rows.items())
