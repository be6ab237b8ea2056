"""The program on a machine that hosts copies: joins a learner, and does what it asks.

A host says which simulators it offers and how many copies it may run. The learner says which
copies it wants. Nothing else can be asked of a host: it reads no file and runs no command for a
learner.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, InfrastructureError, UserError
from drillyard.simulators.hosts import frames
from drillyard.simulators.hosts.certificates import NAME, Invitation, with_port
from drillyard.simulators.hosts.copies import Copies, Raised, warm_up
from drillyard.system.operating_system import cpu_brand
from drillyard.system.version import VERSION

PROTOCOL = 3
"""Version of the messages. A learner takes hosts with the same number only."""
REACH_S = 5.0
AGAIN_S = 1.0
"""Seconds between two attempts to reach a learner that does not listen."""
HANDSHAKE_S = 20.0
BEAT_S = 1.0
"""Seconds between two signs of life while copies work."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """What a host offers.

    Attributes:
        name: Name of the host, for messages.
        copies: Most copies at once; None: as many as the learner wants.
        simulators: Ids of the simulators that it may run; None: any that can be imported.
    """

    name: str
    copies: int | None = None
    simulators: tuple[str, ...] | None = None


class Host:
    """A host of copies.

    Args:
        invitation: Where to join, and with what.
        offer: What it offers.
        patience_s: How long to look for a learner that listens; None: for ever.
    """

    def __init__(
        self, invitation: Invitation, offer: Offer, patience_s: float | None = None
    ) -> None:
        self._invitation, self._offer, self._patience_s = invitation, offer, patience_s
        self._context = invitation.context()
        self._places = invitation.places
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Join no other learner; safe in a signal handler."""
        self._stopped.set()

    def serve(self, once: bool = False) -> None:
        """Join the learner, again and again.

        Args:
            once: End with the first learner.

        Raises:
            UserError: The learner refuses this host.
            InfrastructureError: No learner listens, for longer than ``patience_s``.
        """
        warm_up()
        while not self._stopped.is_set():
            wire = self._connect()
            if wire is None:
                return
            try:
                self._join(wire)
                log.info("joined the learner at %s", self._invitation.address)
                _Guest(wire, self._offer).serve()
                log.info("the learner at %s needs no copies any longer", self._invitation.address)
            except (OSError, frames.FrameError) as error:
                log.warning("the connection to the learner ended: %s", error)
            finally:
                wire.close()
            if once:
                return
            self._stopped.wait(AGAIN_S)

    def _connect(self) -> frames.Wire | None:
        """A connection to the learner; None once this host was stopped."""
        began, logged = time.monotonic(), False
        while not self._stopped.is_set():
            wire, errors = self._tried()
            if wire is not None:
                return wire
            answered = [e for e in errors.values() if isinstance(e, ssl.SSLCertVerificationError)]
            if len(answered) == len(errors):
                raise UserError(
                    f"the learner at {', '.join(errors)} has another certificate than the "
                    f"invitation: {answered[0].verify_message}",
                    hint="copy the invitation of this learner again; if it is the right one, "
                    "something else answers at this address",
                )
            waited = time.monotonic() - began
            if self._patience_s is not None and waited >= self._patience_s:
                tried = "; ".join(f"{address}: {error}" for address, error in errors.items())
                raise InfrastructureError(
                    f"no learner answers at {tried}",
                    hint="start the training, and let its port through the firewall",
                )
            if not logged:
                logged = True
                log.info("waiting for a learner at %s", ", ".join(errors))
            self._stopped.wait(AGAIN_S)
        return None

    def _tried(self) -> tuple[frames.Wire | None, dict[str, OSError]]:
        """A connection to the first address where this learner answers, or why there is none.

        Another program may answer at one of several addresses: the certificate tells them apart,
        and nothing secret is sent before it was compared.
        """
        errors: dict[str, OSError] = {}
        for host, port in self._places:
            try:
                plain = socket.create_connection((host, port), timeout=REACH_S)
                plain.settimeout(HANDSHAKE_S)
                wrapped = self._context.wrap_socket(plain, server_hostname=NAME)
                return frames.Wire(wrapped), errors
            except OSError as error:  # an ssl.SSLError is one
                errors[with_port(host, port)] = error
        return None, errors

    def _join(self, wire: frames.Wire) -> None:
        wire.send("join", introduction(self._invitation.token, self._offer), HANDSHAKE_S)
        kind, body = wire.receive(HANDSHAKE_S)
        if kind == "refused":
            raise UserError(
                f"the learner at {self._invitation.address} refuses this host: {body['message']}",
                hint=str(body["hint"]),
            )
        if kind != "welcome":
            raise frames.FrameError(f"the learner answered {kind!r} to a host that joins")


def introduction(token: str, offer: Offer) -> JsonObject:
    """The first message of a host."""
    simulators: list[Any] | None = None if offer.simulators is None else [*offer.simulators]
    return {
        "token": token,
        "protocol": PROTOCOL,
        "version": VERSION,
        "name": offer.name,
        "pid": os.getpid(),
        "copies": offer.copies,
        "simulators": simulators,
        "platform": platform_here(),
    }


def platform_here() -> JsonObject:
    """What bit-equality of copies depends on, as far as it can be compared."""
    return {
        "machine": platform.machine(),
        "cpu": cpu_brand(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "gymnasium": metadata.version("gymnasium"),
    }


class _Guest:
    """Serves one learner until the connection ends."""

    def __init__(self, wire: frames.Wire, offer: Offer) -> None:
        self._wire, self._offer = wire, offer
        self._copies: Copies | None = None
        # A TLS connection must not be read and written by two threads at once: signs of life are
        # sent only while nothing is read.
        self._lock = threading.Lock()
        self._busy = False
        self._over = threading.Event()

    def serve(self) -> None:
        threading.Thread(target=self._beat, name="alive", daemon=True).start()
        try:
            while True:
                kind, body = self._wire.receive()
                if kind == "bye":
                    return
                with self._lock:
                    self._busy = True
                try:
                    answer = self._done(kind, body)
                except Raised as raised:
                    answer = frames.encode("raised", raised.content)
                with self._lock:
                    self._busy = False
                    self._wire.send_frame(answer)
        finally:
            self._over.set()
            self._end()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with self._lock:
                if self._busy and not self._over.is_set():
                    try:
                        self._wire.send("alive")
                    except OSError:
                        # The answer of a copy that takes long, or hangs, is no longer waited for.
                        if self._copies is not None:
                            self._copies.kill()

    def _done(self, kind: str, body: Any) -> bytes:
        """Does what the learner asks; the frame of the answer."""
        if kind == "step":
            return self._there().step(body)
        answer: object = None
        if kind == "make":
            answer = self._make(body)
        elif kind == "end":
            self._end()
        elif kind == "reset":
            answer = self._there().reset(body[0], body[1])
        else:
            answer = self._there().ask(kind, body)
        return frames.encode("done", answer)

    def _there(self) -> Copies:
        assert self._copies is not None, "the learner makes copies first"
        return self._copies

    def _make(self, order: Mapping[str, Any]) -> object:
        self._end()
        offered, simulator = self._offer.simulators, str(order["simulator"]["id"])
        # The learner knows what is offered; this protects the host from one that does not care.
        if offered is not None and simulator not in offered:
            raise Raised(_refusal("simulator.id", simulator, ", ".join(offered)))
        if self._offer.copies is not None and len(order["copies"]) > self._offer.copies:
            raise Raised(_refusal("train.n_envs", len(order["copies"]), str(self._offer.copies)))
        log.info("making %d copies of %s", len(order["copies"]), simulator)
        self._copies = Copies(order)
        return self._copies.make()

    def _end(self) -> None:
        if self._copies is not None:
            self._copies.close()
            self._copies = None


def _refusal(field: str, value: object, allowed: str) -> JsonObject:
    from drillyard.simulators.hosts import troubles

    return troubles.to_json(
        ConfigError(
            "is more than this host offers",
            field=field,
            value=value,
            allowed=allowed,
            hint="start the host with other --offers or --copies, or start more hosts",
        )
    )
