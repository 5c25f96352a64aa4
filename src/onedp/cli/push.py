"""``onedp push``: a policy to the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Push:
    """Upload a policy or an export to the Hugging Face hub (or the server in HF_ENDPOINT), with a model card."""

    policy: tyro.conf.Positional[str]
    """Folder of a policy or of onedp export, or the name of a shipped policy."""
    repository: tyro.conf.Positional[str]
    """OWNER/NAME; it is made when it does not exist."""
    public: bool = False
    """Let everybody read it; by default it is private."""
    results: Path | None = None
    """Result of onedp evaluate --json for this policy: its scores go into the model card."""

    def run(self) -> None:
        """Check, upload, print where."""
        from onedp.evaluate.scores import read_scores
        from onedp.hub import push_policy

        results = None if self.results is None else read_scores(self.results)
        address = push_policy(self.policy, self.repository, self.public, results)
        seen_by = "everybody" if self.public else "you and those you let in"
        print(f"Pushed to {self.repository}, for {seen_by}: {address}\nNext: onedp pull {self.repository} --out DIR")
