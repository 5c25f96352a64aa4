"""A policy that lives in a server. Torch-free and synchronous: what a robot's control loop imports."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import websockets.sync.client
from jaxtyping import Float32
from numpy import ndarray
from websockets.exceptions import InvalidStatus, WebSocketException

from onedp.errors import ServeError, unknown_choice
from onedp.observations import check_observation
from onedp.serve.wire import pack, unpack
from onedp.types import Continuation, PolicySpec

Client = TypeVar("Client", bound="PolicyClient")


class PolicyClient:
    """One connection to one policy of a server. Implements the ``Policy`` protocol.

    Not for several threads at once. Every failure is a ``ServeError``; when the message says that the connection is
    closed, make a new client: an answer that comes too late must not be taken for the next one's.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        policy: str | None = None,
        token: str | None = None,
        timeout_s: float = 10.0,
    ):
        """Connect and read what the server offers; ``policy`` None is its default one. Raises ``ServeError``."""
        if not 1 <= port < 1 << 16:
            raise ServeError(f"The port of the server is {port}, expected 1 to 65535.")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ServeError("The token is not one line of printable ASCII characters, which no server takes.")
        self._uri = f"ws://{f'[{host}]' if ':' in host else host}:{port}"
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        try:
            # a context even where websockets before 17 returns the connection itself
            self._connection = self._stack.enter_context(
                websockets.sync.client.connect(
                    self._uri,
                    compression=None,
                    max_size=2**26,
                    open_timeout=timeout_s,
                    close_timeout=1,
                    additional_headers=None if token is None else {"Authorization": f"Api-Key {token}"},
                )
            )
        except InvalidStatus as error:
            reason = bytes(error.response.body or b"").decode(errors="replace").strip()
            raise ServeError(f"The server at {self._uri} refuses: {reason or error}") from error
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:  # ValueError: a host that is none
            raise ServeError(f"No policy server answers at {self._uri}: {error}. Start one: onedp serve") from error
        try:
            self.metadata: dict[str, Any] = self._receive()
            if not isinstance(self.metadata, dict) or "policies" not in self.metadata:
                raise ServeError(f"The server at {self._uri} is none of onedp: it does not name its policies.")
            self.name: str = policy or self.metadata["default_policy"]
            if self.name not in self.metadata["policies"]:
                raise ServeError(unknown_choice("policy", self.name, self.metadata["policies"]))
            offer = self.metadata["policies"][self.name]
            self._check(offer)
            self._spec = PolicySpec.from_json(offer["spec"])
            self._noise_shape = tuple(int(n) for n in offer["noise_shape"])
            self._nfe = int(offer["nfe"])
        except BaseException:
            self.close()
            raise
        self.timing: dict[str, float] = {}
        """What the newest answer cost the server [ms]."""

    def _check(self, offer: Mapping[str, Any]) -> None:
        """Raise ``ServeError`` when the policy, as the server describes it, is none for this client."""

    @property
    def spec(self) -> PolicySpec:
        """What goes in and what comes out."""
        return self._spec

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(draws, Tp, Da): standard normal noise that one chunk consumes."""
        return self._noise_shape

    @property
    def nfe(self) -> int:
        """Network passes per chunk."""
        return self._nfe

    def infer(
        self, obs: Mapping[str, Float32[ndarray, "b to ..."]], noise: Float32[ndarray, "b draws tp da"]
    ) -> Float32[ndarray, "b tc da"]:
        """Action chunk from now on, ``(B, Tp - To + 1, Da)``, physical units; see ``Policy.infer``.

        Raises ``ServeError`` when the server refuses the request, is gone, or does not answer in time.
        """
        return self._infer(obs, noise)

    def _infer(self, obs: Mapping[str, ndarray], noise: ndarray, **options: ndarray) -> Float32[ndarray, "b tc da"]:
        rows = check_observation(self._spec, obs)
        answer = self._ask(pack({**obs, "noise": noise, "policy": self.name, **options}))
        actions = answer.get("actions") if isinstance(answer, dict) else None
        expected = (rows, self._spec.chunk_length, self._spec.action_dim)
        if not isinstance(actions, ndarray) or actions.shape != expected:
            raise ServeError(f"The server at {self._uri} answered without actions of the shape {expected}.")
        self.timing = dict(answer.get("server_timing", {}))
        return np.asarray(actions, dtype=np.float32)

    def _ask(self, request: bytes) -> Any:
        try:
            self._connection.send(request)
        except WebSocketException as error:
            raise self._lost(error) from error
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv(timeout=self._timeout_s)
        except TimeoutError as error:
            self.close()
            raise ServeError(
                f"The server at {self._uri} did not answer within {self._timeout_s:g} s; the connection is closed."
            ) from error
        except WebSocketException as error:
            raise self._lost(error) from error
        if isinstance(answer, str):
            raise ServeError(f"The server refuses the request: {answer}")
        return unpack(answer)

    def _lost(self, error: Exception) -> ServeError:
        return ServeError(f"The connection to {self._uri} is closed: {error}.")

    def close(self) -> None:
        """Hang up."""
        self._stack.close()

    def __enter__(self: Client) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ContinuingClient(PolicyClient):
    """The same for a policy that goes on from the chunk before: what the executor ``rtc`` needs.

    Connecting raises ``ServeError`` when the policy cannot.
    """

    def _check(self, offer: Mapping[str, Any]) -> None:
        continues = offer.get("continues")
        if continues is None:
            raise ServeError(
                f"The server at {self._uri} (onedp {self.metadata.get('version')}) does not know chunks that go on "
                "from the one before, which rtc needs. Update it, or use another executor."
            )
        if not continues:
            raise ServeError(
                f"The policy '{self.name}' of the server at {self._uri} cannot go on from the chunk before, which rtc "
                "needs: only PyTorch policies can. Use another executor."
            )

    def infer_continuing(
        self,
        obs: Mapping[str, Float32[ndarray, "b to ..."]],
        noise: Float32[ndarray, "b draws tp da"],
        previous: Continuation,
    ) -> Float32[ndarray, "b tc da"]:
        """As ``infer``, drawn towards ``previous``; see ``ContinuingPolicy``."""
        return self._infer(obs, noise, previous_actions=previous.actions, previous_weights=previous.weights)
