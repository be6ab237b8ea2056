"""Messages between a host and the process of a copy, one question and one answer at a time.

``Connection`` of ``multiprocessing`` reads the length of a message and its bytes apart, and looks
at each several times. A step of a copy that waits finds nothing of this in the processor's caches,
so it costs more than the step of the simulator.
"""

from __future__ import annotations

import os
import struct
from multiprocessing.connection import Connection

from drillyard.system.operating_system import POSIX

_SIZE = struct.Struct("!Q")
_CHUNK = 2**16


class Messages:
    """Sends and receives messages. Both sides use it, after any use of the connection itself.

    Args:
        connection: One end of a pipe in both directions.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Elsewhere the number is not that of a file.
        self._file = connection.fileno() if POSIX else None
        self._chunk = bytearray(_CHUNK)

    def send(self, data: bytes) -> None:
        """Send a message.

        Raises:
            OSError: The other side is gone.
        """
        if self._file is None:
            self._connection.send_bytes(data)
            return
        message = _SIZE.pack(len(data)) + data
        sent = os.write(self._file, message)
        while sent < len(message):
            sent += os.write(self._file, memoryview(message)[sent:])

    def receive(self) -> bytes:
        """Wait for the next message, which is the only one on its way.

        Raises:
            OSError, EOFError: The other side is gone.
        """
        if self._file is None:
            return self._connection.recv_bytes()
        there = self._read(self._chunk)
        while there < _SIZE.size:
            there += self._read(memoryview(self._chunk)[there:])
        size = _SIZE.unpack_from(self._chunk)[0] + _SIZE.size
        if there == size:
            return bytes(memoryview(self._chunk)[_SIZE.size : size])
        message = self._chunk[:there] + bytes(size - there)
        while there < size:
            there += self._read(memoryview(message)[there:])
        return bytes(memoryview(message)[_SIZE.size :])

    def _read(self, buffer: bytearray | memoryview) -> int:
        assert self._file is not None
        read = os.readv(self._file, [buffer])
        if not read:
            raise EOFError
        return read
