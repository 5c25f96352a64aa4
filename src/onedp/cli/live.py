"""``onedp live``: policies side by side on a web page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from onedp.errors import OneDPError


@dataclass(frozen=True)
class Live:
    """Show policies side by side in a browser, in real time, each in its own Push-T whose T can be dragged away."""

    policies: tyro.conf.Positional[tuple[str, ...]] = ()
    """POLICY or POLICY@SAMPLER (pusht-keypoints-ddpm@ddim:10), folder or shipped name; one lane each."""
    task: str | None = None
    """A Push-T that moves (pusht-drift@speed=4, pusht-reset) for all; default: each policy's own, standing still."""
    latency: str = "measured"
    """At the beginning: seconds that are charged for every chunk (0.669), measured (drawn from latencies measured
    beforehand, one policy at a time), true (what thinking takes while all lanes run), or paper (its V100)."""
    executor: str = "sync"
    """At the beginning: sync, drop-late, ensemble or rtc; see onedp evaluate --help. Here too seconds and paper charge
    rtc no more than the others, measured and true do."""
    seed: int = 0
    """Start of the first episode."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback demands --token-file."""
    port: int = 8050
    """0: a free one."""
    token_file: Path | None = None
    """File of one line that pages must know; not readable for everyone."""
    device: str = "cpu"
    """Device of the networks: cpu, cuda, cuda:1, mps."""

    def run(self) -> None:
        """Load, measure, serve, and stop on SIGTERM or ctrl-c."""
        if not self.policies:
            raise OneDPError(
                "live needs a POLICY or several, for example: onedp live pusht-keypoints-onedp-s "
                "pusht-keypoints-ddpm@ddim:10"
            )
        from onedp.live.protocol import LARGEST_SEED
        from onedp.live.server import LiveConfig, LiveServer
        from onedp.live.stage import Stage, StageConfig
        from onedp.serve.access import read_token, require_token_beyond_loopback
        from onedp.serve.run import run_until_signal

        token = None if self.token_file is None else read_token(self.token_file)
        require_token_beyond_loopback(self.host, token)  # before the seconds of loading
        if not 0 <= self.seed <= LARGEST_SEED:
            raise OneDPError(f"--seed must be 0 to {LARGEST_SEED}, it is {self.seed}.")
        from onedp.live.members import load_member

        cast = [load_member(text, self.device) for text in self.policies]
        if self.latency == "measured":
            print("Measuring how long each policy thinks here ...", flush=True)
        stage = Stage(cast, StageConfig(self.task, self.latency, self.executor, self.seed))
        server = LiveServer(stage, LiveConfig(self.host, self.port, token))

        def ready(port: int) -> None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            secret = "" if token is None else f"#{token}"
            print(f"Open http://{host}:{port}/{secret}  (ctrl-c stops)", flush=True)

        run_until_signal(server, ready)
