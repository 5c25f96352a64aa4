"""What a model card says of an evaluation, without its episodes. Torch-free.

The package ships such summaries of its own policies (``shipped/scores.json``), so their exports say what they score.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from onedp.errors import OneDPError
from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import EvaluationResult
from onedp.typed_json import from_json, read_json_object

SHIPPED_SCORES = "scores.json"


@dataclass(frozen=True)
class Scores:
    """Numbers of one policy with one sampler; fields as in ``EvaluationResult``."""

    label: str
    task: str
    sampler: str
    weights_digest: str
    episodes: int
    first_seed: int
    score_mean: float
    score_ci95: tuple[float, float]
    success_rate: float
    success_ci95: tuple[float, float]

    @classmethod
    def of(cls, result: EvaluationResult) -> Scores:
        """The summary of ``result``."""
        return cls(**{each.name: getattr(result, each.name) for each in fields(cls)})


def read_scores(path: Path) -> Scores:
    """Of the file that ``onedp evaluate --json`` wrote; raises ``OneDPError`` when it is something else."""
    result = load_results(path)
    if not isinstance(result, EvaluationResult):
        raise OneDPError(f"{path} is a comparison; give the result of onedp evaluate --json.")
    return Scores.of(result)


def shipped_scores(weights_digest: str, sampler: str) -> Scores | None:
    """Of a policy that the package ships, known by its weights; None for others, and for samplers not evaluated."""
    path = Path(str(resources.files("onedp"))) / "shipped" / SHIPPED_SCORES
    rows = [from_json(Scores, row, f"A row of {path}") for row in read_json_object(path)["rows"]]
    return next((row for row in rows if (row.weights_digest, row.sampler) == (weights_digest, sampler)), None)
