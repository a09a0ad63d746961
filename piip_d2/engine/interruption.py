"""Ending a run from outside without losing it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType, TracebackType

from detectron2.utils import comm

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Ctrl-C may come twice: from the terminal, and from the parent process that it ended.
_SAME_EVENT = 2.0  # seconds


class TrainingInterrupted(SystemExit):
    """Raised behind the checkpoint which was saved because the run was told to end."""


class Interruption:
    """Notes SIGTERM and Ctrl-C, so that the running iteration can be finished and saved.

    A later second signal acts at once. Signals can only be caught in the main thread; elsewhere
    this does nothing.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._received_at = 0.0
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def name(self) -> str | None:
        """Returns the signal that any of the processes received, or None; all must call it."""
        own = self._received.name if self._received else None
        return next((name for name in comm.all_gather(own) if name), None)

    def release(self) -> None:
        """Lets signals act at once again, as they do without this."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker of the data loader inherited this; its parent decides when it ends.
            return
        if self._received is None:
            self._received = signal.Signals(number)
            self._received_at = time.monotonic()
            logger.warning(
                "%s: Finishing this iteration, then saving; press again to end at once.",
                self._received.name,
            )
        elif time.monotonic() - self._received_at > _SAME_EVENT:
            self.release()
            os.kill(self._process, number)
