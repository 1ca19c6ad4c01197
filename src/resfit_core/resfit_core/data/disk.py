"""The recorder's way to the disk: one thread, in order, patient where the disk refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Disk:
    """Does what is handed over on a thread of its own, so that no message waits for the disk.

    What the disk refuses (`OSError`: full, read-only, gone) is tried again until it works: it
    stays in memory meanwhile, and `owed` says why the episode is not closed yet.
    """

    def __init__(
        self, retry_s: float = 2.0, slow_s: float = 2.0, say_every_s: float = 1.0
    ) -> None:
        """Start the thread with the first work.

        Args:
            retry_s: Between two tries [s].
            slow_s: An episode that takes longer to close is owed [s].
            say_every_s: `owed` speaks so often at most [s].
        """
        self._retry_s, self._slow_s, self._say_every_s = retry_s, slow_s, say_every_s
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._leaving = threading.Event()
        self._refused = ""  # written on the thread, read on the caller's
        self._episode, self._since_s, self._said_s = 0, 0.0, float("-inf")

    @property
    def episode(self) -> int:
        """Number of the episode being closed; 0: none."""
        return self._episode

    def close(self, episode: int, now_s: float) -> None:
        """Note that the work handed over next closes an episode; `now_s` on the steady clock."""
        self._episode, self._since_s = episode, now_s

    def closed(self, episode: int) -> None:
        """Note that the episode is closed, or never will be."""
        if episode == self._episode:
            self._episode = 0

    def do(
        self,
        work: Callable[[], _Result],
        done: Callable[[Future[_Result]], Any] = Future.result,
    ) -> None:
        """Do `work` after what was handed over before; call `done` on the thread."""
        self._worker.submit(self._insist, work).add_done_callback(done)

    def owed(self, now_s: float) -> tuple[int, str] | None:
        """Return now and then which episode is not closed, and why; None: nothing to say."""
        if not self._episode or now_s - self._said_s < self._say_every_s:
            return None
        waited_s, reason = now_s - self._since_s, self._refused
        if not reason and waited_s > self._slow_s:
            reason = f"the disk is slow: {waited_s:.0f} s for one episode so far"
        if not reason:
            return None
        self._said_s = now_s
        return self._episode, reason

    def stop(self) -> str:
        """Finish what was handed over, one last try each; say in words what is lost by that."""
        self._leaving.set()
        self._worker.shutdown(wait=True)
        lost = self._episode if self._refused else 0
        return f"episode {lost} is lost: {self._refused}" if lost else ""

    def _insist(self, work: Callable[[], _Result]) -> _Result:
        while True:
            try:
                done = work()
            except OSError as error:
                where = f" ({error.filename})" if error.filename else ""
                self._refused = f"{error.strerror or error}{where}"
                if self._leaving.wait(self._retry_s):
                    raise
            else:
                self._refused = ""
                return done
