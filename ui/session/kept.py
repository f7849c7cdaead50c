"""What was worked out and stays in memory, for whoever asks next."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The latest few results under their keys; threads may share it."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._results: OrderedDict[K, V] = OrderedDict()

    def find(self, key: K) -> V | None:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def keep(self, key: K, result: V) -> V:
        with self._lock:
            self._results[key] = result
            self._results.move_to_end(key)
            while len(self._results) > self._most:
                self._results.popitem(last=False)
        return result

    def drop(self, key: K) -> None:
        with self._lock:
            self._results.pop(key, None)

    def find_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The result under `key`, made and kept where there is none."""
        found = self.find(key)
        return self.keep(key, make()) if found is None else found

    def all(self) -> dict[K, V]:
        """Every result under its key, the latest last."""
        with self._lock:
            return dict(self._results)
