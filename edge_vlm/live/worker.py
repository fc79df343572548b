# SPDX-License-Identifier: Apache-2.0
"""The thread that turns deliveries into reports, and survives what goes wrong in one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_vlm.live.mailbox import Delivery, Mailbox

_POLL_S = 0.2


class Worker:
    """Calls ``process(delivery)`` for whatever the mailbox holds, on a thread of its own.

    An exception in ``process`` is passed to ``on_failure(error, count)``; the worker then waits ``backoff_s`` (doubled
    for each failure in a row, at most 5 s) and goes on.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        process: Callable[[Delivery], None],
        on_failure: Callable[[Exception, int], None],
        backoff_s: float = 0.1,
    ) -> None:
        self._mailbox = mailbox
        self._process = process
        self._on_failure = on_failure
        self._backoff_s = backoff_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge_vlm worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Ask the thread to end after the frame in hand and wait for it. False if it is still busy."""
        self._stop.set()
        self._mailbox.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            delivery = self._mailbox.take(_POLL_S)
            if delivery is None:
                continue
            try:
                self._process(delivery)
                failures = 0
            except Exception as error:  # one bad frame must not end the stream
                failures += 1
                self._on_failure(error, failures)
                self._stop.wait(min(5.0, self._backoff_s * 2.0 ** min(failures - 1, 10)))
