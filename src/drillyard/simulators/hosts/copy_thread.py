"""One copy of a simulator in a thread of its host, where simulators wait and compute little.

A process that sleeps finds nothing in the caches when it goes on: its 12 µs of work take 200.
Threads of one process share what they need, use no pipe, and no memory of their own. The simulator
must say that it can be in several threads (``thread_safe``). It is stepped by the same code.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from queue import SimpleQueue

from drillyard.documents.json_types import JsonObject
from drillyard.simulators.hosts import frames, troubles
from drillyard.simulators.hosts.copy_process import CopyServer
from drillyard.simulators.types import Env
from drillyard.spec.learning import SimulatorSpec

THREAD_SAFE = "thread_safe"
"""Attribute of a simulator, or of its class: its copies may be in threads of one process."""
log = logging.getLogger(__name__)


def thread_safe(env: Env) -> bool:
    """Whether copies of a simulator may be in threads of one process.

    Args:
        env: A copy.
    """
    with contextlib.suppress(AttributeError):
        return env.get_wrapper_attr(THREAD_SAFE) is True
    return False


class CopyThread:
    """A copy in a thread; looks like a process with the host's end of its pipe.

    Args:
        simulator: See ``copy_process.main``.
        copy: See there.
        seed: See there.
        streams: See there.
    """

    exitcode: int | None = None

    def __init__(self, simulator: JsonObject, copy: int, seed: int, streams: int) -> None:
        self._copy = copy
        self._asked: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers: SimpleQueue[bytes | None] = SimpleQueue()
        arguments = (simulator, copy, seed, streams)
        self._thread = threading.Thread(
            target=self._run, args=arguments, name=f"copy-{copy}", daemon=True
        )
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Send a message."""
        self._asked.put(data)

    def receive(self) -> bytes:
        """Wait for the next message.

        Raises:
            EOFError: The copy was given up.
        """
        data = self._answers.get()
        if data is None:
            raise EOFError
        return data

    def close(self) -> None:
        """Let the copy end; called once there is nothing to ask any longer."""
        self._asked.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, if it has a limit: a thread cannot be killed."""
        if timeout is not None:
            self._thread.join(timeout)
        elif self._thread.is_alive():
            log.warning("copy %d still hangs in its simulator", self._copy)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def kill(self) -> None:
        """Let whoever waits for its answer wait no longer."""
        self._answers.put(None)

    def _run(self, simulator: JsonObject, copy: int, seed: int, streams: int) -> None:
        try:
            spec = SimulatorSpec.model_validate(simulator)
            server = CopyServer(spec, copy, seed, streams, alone=False)
        except BaseException as error:
            self._answers.put(frames.encode("raised", troubles.to_json(error)))
            return
        self._answers.put(frames.encode("made", server.about()))
        while (data := self._asked.get()) is not None:
            self._answers.put(server.reply(data))
        server.env.close()
