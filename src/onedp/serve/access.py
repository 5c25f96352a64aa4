"""Who may connect."""

from __future__ import annotations

import hmac
import ipaddress
import stat
from pathlib import Path

from onedp.errors import ServeError

MIN_TOKEN_LENGTH = 16


def read_token(path: Path) -> str:
    """The token in a file of one line; raises ``ServeError`` when others can read it or it is short."""
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"The token file {path} is not readable: {error}.") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ServeError(f"Everyone on this machine can read or write the token file {path}. Run: chmod 600 {path}")
    if len(token) < MIN_TOKEN_LENGTH or not token.isprintable() or " " in token:
        raise ServeError(
            f"The token in {path} must be one line of at least {MIN_TOKEN_LENGTH} characters without spaces. "
            f"Make one: (umask 077; openssl rand -hex 32 > {path})"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_token_beyond_loopback(host: str, token: str | None) -> None:
    """Raise ``ServeError`` when anyone on the network could command the policy."""
    if token is None and not is_loopback(host):
        raise ServeError(
            f"'{host}' can be reached from other machines, so clients must show a token. Give --token-file, or bind "
            "to --host 127.0.0.1."
        )


def is_authorized(header: str | None, token: str | None) -> bool:
    """Whether an ``Authorization`` header (``Api-Key TOKEN``, as openpi-client sends) fits; always without a token."""
    if token is None:
        return True
    return hmac.compare_digest((header or "").encode(errors="surrogateescape"), f"Api-Key {token}".encode())
