"""Summaries of the recorded evaluations of shipped policies, for model cards: ``shipped/scores.json``.

python scripts/ship_scores.py
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from onedp.artifact import read_manifest, shipped_artifacts
from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.scores import SHIPPED_SCORES, Scores
from onedp.files import write_json

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    shipped = {read_manifest(path).provenance["weights_digest"] for path in shipped_artifacts().values()}
    results = (load_results(path) for path in sorted((ROOT / "results").glob("pusht-*/*.json")))
    rows = [Scores.of(each) for each in results if isinstance(each, EvaluationResult)]
    chosen = [asdict(row) for row in rows if row.weights_digest in shipped]
    write_json(ROOT / "src/onedp/shipped" / SHIPPED_SCORES, {"rows": chosen})
    print(f"{len(chosen)} evaluations of {len(shipped)} shipped policies")
