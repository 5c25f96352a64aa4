"""``onedp pull``: a policy from the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Pull:
    """Download a policy or an export from the Hugging Face hub (or the server in HF_ENDPOINT) and check it."""

    repository: tyro.conf.Positional[str]
    """OWNER/NAME."""
    out: Path
    """Folder to write."""
    revision: str | None = None
    """Branch, tag or commit; default: the newest."""

    def run(self) -> None:
        """Download, check, save."""
        from onedp.hub import pull_policy

        kind = pull_policy(self.repository, self.out, self.revision)
        following = "onedp inspect" if kind == "policy" else "onedp latency"
        print(f"Pulled the {kind} {self.repository} into {self.out}. Next: {following} {self.out}")
