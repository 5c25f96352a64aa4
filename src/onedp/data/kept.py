"""What was read from files, kept while there is room: whatever was not asked for the longest goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

KEPT_BYTES = 256 << 20
"""Room of one data set: row groups of a few thousand small pictures, or the numbers of millions of steps."""


@runtime_checkable
class OfKnownSize(Protocol):
    """A thing that knows its size in memory, as arrays of numpy and pyarrow do."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


Thing = TypeVar("Thing", bound=OfKnownSize)


@dataclass(eq=False)
class _Place:
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the thing is read: who wants the same meanwhile waits for it."""
    thing: Any = None
    """None until it was read."""


class Kept:
    """Things that are read once as long as there is room for them. May be called by several threads.

    Holds at most ``most_bytes``, or one thing that alone is larger: it was in memory to be read, and whoever reads rows
    one by one out of the only row group of a file would read all of them every time. What is being read comes on top.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES):
        self._most_bytes = most_bytes
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0
        """Of all that is kept now."""

    def get(self, key: Hashable, read: Callable[[], Thing]) -> Thing:
        """The thing of this ``key``, by ``read`` when it is not kept. Others may be given the same: do not change it.

        What ``read`` raises is raised; the next who asks reads again.
        """
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
        with place.lock:
            if place.thing is None:
                self._keep(key, place, read())
            return place.thing

    def _keep(self, key: Hashable, place: _Place, thing: OfKnownSize) -> None:
        with self._lock:
            place.thing = thing
            if self._places.get(key) is not place:
                return  # it was its turn to go while it was read
            self.nbytes += thing.nbytes
            while self.nbytes > self._most_bytes and len(self._places) > 1:
                gone = self._places.popitem(last=False)[1].thing
                self.nbytes -= 0 if gone is None else gone.nbytes
