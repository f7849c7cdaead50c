"""Taking turns on one model: hooks are global to it, so only one forward pass with hooks may run at a time."""

from collections import deque
from threading import Lock


class Turns:
    """A lock that threads get in the order in which they asked for it; not reentrant.

    With an ordinary lock, a long fit that gives it up between two batches would mostly take it again before a
    waiting comparison wakes up.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._queue: deque[Lock] = deque()

    @property
    def wanted(self) -> bool:
        """Whether another thread waits for its turn."""
        return len(self._queue) > 1

    def __enter__(self) -> None:
        mine = Lock()
        mine.acquire()
        with self._guard:
            self._queue.append(mine)
            if self._queue[0] is mine:
                mine.release()
        mine.acquire()

    def __exit__(self, *failure: object) -> None:
        with self._guard:
            self._queue.popleft()
            if self._queue:
                self._queue[0].release()
