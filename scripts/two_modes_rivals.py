"""What was tried with the rivals on the synthetic task two-modes: one row a change to a rival's recipe, several seeds.

    python scripts/two_modes_rivals.py --bench BENCH --out results/two-modes-ablation/rivals

As ``two_modes_ablation.py``, whose options, columns and targets these are: ``--bench`` is the output folder of ``onedp
bench two-modes``, every row has the same budget in counted passes and acts as its method does unless told otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from two_modes_ablation import main

from onedp.methods.config import MethodConfig
from onedp.methods.presets import fitted
from onedp.methods.table import recipe


@dataclass(frozen=True)
class Rival:
    """A method's preset with changes."""

    method: str
    rate: float = 1.0
    """Factor on the preset's rate."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the method's config."""
    process: str = "edm"
    batch_size: int = 128
    network: None = None
    noise_channels: int = 0
    acting_noise: float | None = None
    acting: str | None = None
    """Sampler that it acts with; None: the method's own."""

    def config(self, steps: int) -> MethodConfig:
        """For a run of ``steps`` steps."""
        preset = recipe(self.method, "small", self.process)
        rate = getattr(preset.config, preset.config.main_optimizer).lr
        config: Any = fitted(preset, steps, lr=self.rate * rate)
        changed: MethodConfig = dataclasses.replace(config, **self.options)
        return changed

    def sampler(self) -> str | None:
        """How it acts; None: as it was trained to."""
        return self.acting


RIVALS: dict[str, Rival] = {
    "Consistency Policy": Rival("consistency-policy"),
    "Consistency Policy, 3 passes": Rival("consistency-policy", acting="consistency:3"),
    "Consistency Policy, rate x 0.33": Rival("consistency-policy", 0.33),
    "Consistency Policy, rate x 3": Rival("consistency-policy", 3.0),
    "Consistency Policy, rate x 3, 3 passes": Rival("consistency-policy", 3.0, acting="consistency:3"),
    "Consistency Policy, rate x 10": Rival("consistency-policy", 10.0),
    "Consistency Policy, 80 bins from the start": Rival("consistency-policy", options={"first_bins": 80}),
    "consistency": Rival("consistency"),
    "consistency, rate x 3": Rival("consistency", 3.0),
    "consistency, rate x 10": Rival("consistency", 10.0),
    "consistency, 40 bins from the start": Rival("consistency", options={"first_bins": 40}),
    "Gaussian": Rival("gaussian"),
    "Gaussian, rate x 0.33": Rival("gaussian", 0.33),
    "Gaussian, rate x 3": Rival("gaussian", 3.0),
}
"""The preset of each, and what was tried with it."""


if __name__ == "__main__":
    main(RIVALS)
