"""``onedp serve``: policies over websockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from onedp.errors import OneDPError
from onedp.serve.limits import ServerLimits
from onedp.types import Policy


@dataclass(frozen=True)
class Serve:
    """Serve policies over websockets, in the protocol of openpi (docs/serving.md)."""

    policies: tyro.conf.Positional[tuple[str, ...]] = ()
    """POLICY or POLICY@SAMPLER (pusht-keypoints-ddpm@ddim:10), folder or shipped name. The first is the default one."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback demands --token-file."""
    port: int = 8000
    """0: a free one."""
    token_file: Path | None = None
    """File of one line that clients must know; not readable for everyone."""
    device: str = "cpu"
    """Device of the networks: cpu, cuda, cuda:1, mps."""
    threads: int = 1
    """CPU threads of a pass; one is best where a control loop shares the cores."""
    seed: int = 0
    """Seed of the noise of clients that send none: 0 to 2**63 - 1."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    """What a client may ask."""

    def run(self) -> None:
        """Load, serve, and stop on SIGTERM or ctrl-c after the requests in flight."""
        if not self.policies:
            raise OneDPError("serve needs a POLICY, for example: onedp serve pusht-keypoints-onedp-s")
        if not 0 <= self.port < 1 << 16:
            raise OneDPError(f"--port is {self.port}, expected 0 (the system's choice) to 65535.")
        from onedp.serve.access import read_token, require_token_beyond_loopback
        from onedp.serve.run import serve_until_signal
        from onedp.serve.server import ServerConfig

        token = None if self.token_file is None else read_token(self.token_file)
        require_token_beyond_loopback(self.host, token)  # before the seconds of loading
        config = ServerConfig(host=self.host, port=self.port, token=token, limits=self.limits, seed=self.seed)
        loaded = [open_policy(text, self.device, self.threads) for text in self.policies]
        policies = dict(loaded)
        if len(policies) < len(loaded):
            raise OneDPError(f"Two policies have the same name: {', '.join(name for name, _ in loaded)}. Rename one.")

        def ready(port: int) -> None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            print(f"Serving {', '.join(policies)} on ws://{host}:{port}", flush=True)

        serve_until_signal(policies, config, ready)


def open_policy(text: str, device: str, threads: int) -> tuple[str, Policy]:
    """The name a policy is served under, and the policy: the one place that knows which runtime runs it.

    Raises ``OneDPError`` when there is none under ``POLICY`` or the sampler does not fit.
    """
    from onedp.backends.manifest import is_export, require_own_sampler
    from onedp.backends.runtimes import check_threads

    check_threads(threads)
    path, _, sampler = text.partition("@")
    if is_export(Path(path)):
        require_own_sampler(path, sampler)
        from onedp.backends import load_backend

        return Path(path).resolve().name, load_backend(path, threads=threads)
    import torch

    from onedp.policy import load_policy

    torch.set_num_threads(threads)
    policy = load_policy(path, sampler or None, device)
    return policy.name + (f"@{sampler}" if sampler else ""), policy
