"""The learner's side of the hosts: listens, checks who joins, and keeps who has joined."""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.errors import HostLost, InfrastructureError
from drillyard.simulators.hosts import frames, troubles
from drillyard.simulators.hosts.certificates import Identity, Invitation, with_port
from drillyard.simulators.hosts.host import HANDSHAKE_S, PROTOCOL, platform_here
from drillyard.simulators.hosts.packed_steps import RowReader
from drillyard.system.version import VERSION

SILENCE_S = 6.0
"""A host that works says so each second; after so many seconds without a word it is lost."""
_JOIN_BYTES = 64 * 2**10
"""Longest first message: who sends it has not shown a token yet."""
GREETED = 256
"""Most connections at once that have not shown a token yet; further ones are closed."""
REASONS = 20
"""Number of refusals whose reason is kept."""
_PAUSE_S = 0.5
"""Seconds until the next attempt after the system refused to take a connection."""
log = logging.getLogger(__name__)


class JoinedHost:
    """A host that has joined.

    Args:
        wire: The connection.
        said: Its introduction.
    """

    def __init__(self, wire: frames.Wire, said: Mapping[str, Any]) -> None:
        self._wire = wire
        self.name = str(said["name"])
        self.pid = int(said["pid"])
        self.most: int | None = None if said.get("copies") is None else int(said["copies"])
        """Most copies that it may have."""
        self.platform: JsonObject = dict(said.get("platform") or {})
        self.lost = False
        self._rows: tuple[list[Any], RowReader] = ([], RowReader([]))

    def send(self, kind: str, body: object = None) -> None:
        """Ask something; ``answer`` waits for it.

        Raises:
            HostLost: The connection is lost.
        """
        try:
            if isinstance(body, np.ndarray):
                template = frames.array_template(kind, body.dtype, body.shape)
                self._wire.send_frame(template.fill(body.tobytes()), SILENCE_S)
            else:
                self._wire.send(kind, body, SILENCE_S)
        except OSError as error:
            raise self._gone(error) from error

    def answer(self) -> frames.Message:
        """The answer: ``done`` or ``raised``, and its content.

        Raises:
            HostLost: The connection is lost, or silent.
        """
        try:
            while True:
                kind, body = self._wire.receive(SILENCE_S)
                if kind == "rows":
                    return "done", self._read(body["layout"], body["rows"], body["tails"])
                if kind != "alive":
                    return kind, body
        except (OSError, frames.FrameError) as error:
            raise self._gone(error) from error

    def ask(self, kind: str, body: object = None) -> Any:
        """Ask, and return the answer.

        Raises:
            HostLost: See ``answer``.
            DrillyardError: What a copy raised.
        """
        self.send(kind, body)
        answered, content = self.answer()
        if answered == "raised":
            raise troubles.from_json(content)
        return content

    def _read(self, layout: list[Any], rows: np.ndarray, tails: Mapping[int, Any]) -> Any:
        """What rows of the copies say."""
        if layout != self._rows[0]:
            self._rows = layout, RowReader(layout)
        return self._rows[1].read(rows, tails)

    def close(self) -> None:
        """Say goodbye; its copies end."""
        with contextlib.suppress(OSError):
            if not self.lost:
                self._wire.send("bye", None, 1.0)
        self._wire.close()

    def _gone(self, error: Exception) -> HostLost:
        self.lost = True
        self._wire.close()  # one that was only silent notices it, and may join again
        how = "was silent" if isinstance(error, TimeoutError) else "closed the connection"
        return HostLost(
            f"the host of copies {self.name} is lost: it {how}",
            hint="the training goes back to its last checkpoint, and the copies start elsewhere",
        )


class HostListener:
    """Listens for hosts of one training.

    Args:
        identity: Certificate and token.
        simulator: Id of the simulator whose copies are hosted.
        address: Where to listen; port 0: a free one. ``::`` takes IPv4, too.

    Raises:
        InfrastructureError: Another program has the port.
    """

    def __init__(
        self, identity: Identity, simulator: str, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._identity, self._simulator = identity, simulator
        self._context = identity.context()
        self._socket = listen(address)
        self._changed = threading.Condition()
        self._joined: list[JoinedHost] = []
        self._closed = False
        self.ever = 0
        """Number of hosts that have joined so far, with those that were lost since."""
        self.refused: list[str] = []
        """Why hosts were refused lately, for the message when too few join."""
        self._greeted = 0
        """Connections that have not shown a token yet."""
        threading.Thread(target=self._accept, name="hosts", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def invitation(self, host: str = "127.0.0.1") -> Invitation:
        """What hosts need to join.

        Args:
            host: Address by which they reach this machine.
        """
        return self._identity.invitation(with_port(host, self.port))

    def joined(self) -> list[JoinedHost]:
        """The hosts that have joined and are not lost, in the order in which they joined."""
        with self._changed:
            self._joined = [host for host in self._joined if not host.lost]
            return list(self._joined)

    def wait(self, timeout_s: float) -> None:
        """Wait until another host joins, or is refused, or the time is over."""
        with self._changed:
            self._changed.wait(timeout_s)

    def close(self) -> None:
        """Say goodbye to all hosts, and listen no longer."""
        with self._changed:
            self._closed = True
            hosts, self._joined = self._joined, []
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the wait in `accept`
        self._socket.close()
        for host in hosts:
            host.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError as error:
                if self._closed:
                    return
                # The other side is gone already, or no file descriptor is free.
                log.warning("a connection was not taken: %s", error)
                time.sleep(_PAUSE_S)
                continue
            with self._changed:
                full = self._greeted >= GREETED
                self._greeted += not full
            if full:
                plain.close()
                continue
            threading.Thread(target=self._greet, args=(plain,), name="host", daemon=True).start()

    def _greet(self, plain: socket.socket) -> None:
        try:
            wire = self._wrapped(plain)
            if wire is not None and not self._invited(wire):
                wire.close()
        finally:
            with self._changed:
                self._greeted -= 1

    def _wrapped(self, plain: socket.socket) -> frames.Wire | None:
        """The connection with TLS; None if the other side does not speak it."""
        try:
            plain.settimeout(HANDSHAKE_S)
            return frames.Wire(self._context.wrap_socket(plain, server_side=True))
        except OSError as error:  # an ssl.SSLError is one
            plain.close()
            log.debug("a connection that is not a host's: %s", error)
            return None

    def _invited(self, wire: frames.Wire) -> bool:
        """Whether the other side is a host that may join; then it has joined."""
        try:
            kind, introduction = wire.receive(HANDSHAKE_S, _JOIN_BYTES)
            problem = self._problem(kind, introduction)
            if problem is None:
                host = JoinedHost(wire, introduction)
                wire.send("welcome", None, HANDSHAKE_S)
                self._take(host)
                return True
            # Noted first: who is refused may look before this thread goes on.
            self._note(f"{_name(introduction)}: {problem[0]}")
            wire.send("refused", dict(zip(("message", "hint"), problem, strict=True)), HANDSHAKE_S)
        except (OSError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            self._note(f"a connection was not that of a host of this version: {error}")
        return False

    def _problem(self, kind: str, said: object) -> tuple[str, str] | None:
        """Why a host must not join, and the fix; None if it may."""
        if kind != "join" or not isinstance(said, dict):
            return "this is not a host of drillyard", "start it with drillyard simulator-host"
        token = str(said.get("token", "")).encode()
        if not hmac.compare_digest(token, self._identity.token.encode()):
            return "the token is wrong", "copy the invitation of this learner to the host again"
        if said.get("protocol") != PROTOCOL or said.get("version") != VERSION:
            return (
                f"the host has drillyard {said.get('version')}, and the learner has {VERSION}",
                f"install the same version on both: pip install drillyard=={VERSION}",
            )
        offered = said.get("simulators")
        if isinstance(offered, list) and self._simulator not in offered:
            return (
                f"the training needs {self._simulator}, and the host offers "
                f"{', '.join(map(str, offered))}",
                f"start the host with --offers {self._simulator}",
            )
        return None

    def _take(self, host: JoinedHost) -> None:
        here = platform_here()
        others = {k: v for k, v in host.platform.items() if here.get(k) != v}
        if others:
            log.warning(
                "the host %s differs from the learner (%s): the numbers may be other ones",
                host.name,
                ", ".join(f"{name} {value}" for name, value in others.items()),
            )
        with self._changed:
            if self._closed:
                host.close()
                return
            self._joined.append(host)
            self.ever += 1
            self._changed.notify_all()
        log.info("the host %s has joined", host.name)

    def _note(self, why: str) -> None:
        log.warning("a host of copies was refused: %s", why)
        with self._changed:
            self.refused = [*self.refused, why][-REASONS:]
            self._changed.notify_all()


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens at an address; ``::`` takes IPv4, too.

    Raises:
        InfrastructureError: Another program has the port.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    both = address[0] == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=256, dualstack_ipv6=both)
    except OSError as error:
        raise InfrastructureError(
            f"the learner cannot listen for hosts of copies at {with_port(*address)}: "
            f"{error.strerror or error}",
            hint="end the program that has this port, or give the learner another one",
        ) from None


def _name(said: object) -> str:
    name = said.get("name") if isinstance(said, dict) else None
    # Not trusted: it must not begin a line of the log.
    return "".join(c for c in str(name)[:80] if c.isprintable()) if name else "a host"
