"""One connection to an OPC UA server, for one copy; asyncua's own loop is in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from drillyard.documents.json_types import JsonObject, as_object
from drillyard.errors import SimulatorError
from drillyard.simulators.channels import Channel
from drillyard.simulators.external_process import Answer, ConnectionLost
from drillyard.simulators.opcua.browse import Found, browse, same_type
from drillyard.simulators.opcua.security import Security

T = TypeVar("T")
# Its warnings are about attempts to connect, which are reported here in other words.
logging.getLogger("asyncua").setLevel(logging.ERROR)
_LOST = (OSError, EOFError, CancelledError)
_CLOSED = ("BadConnectionClosed", "BadSessionIdInvalid", "BadSessionClosed", "BadTimeout",
           "BadSecureChannelIdInvalid", "BadSecureChannelClosed", "BadServerHalted", "BadShutdown",
           "BadCommunicationError", "BadRequestTimeout")  # fmt: skip
"""Statuses of a connection or a server that ended; others are mistakes that a retry repeats."""
_UNTRUSTED = ("BadCertificate", "BadSecurityChecksFailed", "BadSecurityPolicyRejected")
_USER = ("BadUserAccessDenied", "BadIdentityToken")
_NOT_HELD = (ValueError, TypeError, OverflowError, struct.error)
"""What a value raises that does not fit the type of a variable."""
_LOOK_S = (0.001, 0.05)
"""Between two looks whether a step is done: at first, and at most."""


@dataclass(frozen=True)
class Handshake:
    """How a step and an episode begin and end; see the arguments of ``OpcUa``."""

    root: str | None
    step: str | None
    step_s: float | None
    reset: str | None
    terminated: str | None
    truncated: str | None


class OpcUaSession:
    """A connection; see ``reached.Session``.

    Args:
        url: Address of the server.
        handshake: How steps are made.
        security: Certificates; None for a connection without protection.
        user: Name of the user; None for none.
        password: The password of that user.
        limit_s: Longest time of a step: a server that computes it may answer nothing else.
    """

    def __init__(
        self,
        url: str,
        handshake: Handshake,
        security: Security | None,
        user: str | None,
        password: str | None,
        limit_s: float,
    ) -> None:
        self._handshake, self._security = handshake, security
        self._client = Client(url, limit_s, limit_s)
        if user is not None:
            self._client.set_user(user)
            self._client.set_password(password or "")
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="opcua", daemon=True)
        self._thread.start()
        self._found: dict[str, list[Found]] = {}
        self._reads: dict[str, str] = {}
        self._acts: dict[str, str] = {}
        self._next = 0.0

    def connect(self, timeout_s: float) -> None:
        """Connects, and reads the names of the server."""
        patient_s = max(self._client.uaclient._timeout, timeout_s)
        self._client.uaclient._timeout = patient_s  # of each request, as long as it is connected
        self._do(self._connect(), timeout_s, "the connection")

    def points(self) -> dict[str, list[Channel]]:
        """All variables with numbers, by name and by node id; those that can be written."""
        all_ = [(name, f) for name, several in self._found.items() for f in several if f.type]
        writable = [replace(found.channel, name=name) for name, found in all_ if found.writable]
        return {"observation": [replace(f.channel, name=n) for n, f in all_], "action": writable}

    def use(self, reads: Mapping[str, str], acts: Mapping[str, str]) -> None:
        """See ``reached.Session``."""
        self._reads, self._acts = dict(reads), dict(acts)

    def ask(self, message: JsonObject, timeout_s: float) -> Answer:
        """Begins an episode or makes a step, and reads."""
        first = message["type"] == "EpisodeStart"
        given = as_object(message["config" if first else "actions"])
        what = "the reset" if first else "a step"
        waits_s = 0.0 if first else self._handshake.step_s or 0.0
        return self._do(self._turn(given, first), timeout_s + waits_s, what)

    def close(self) -> None:
        """Disconnects."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):
            self._do(self._client.disconnect(), 2.0, "the goodbye")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(timeout_s):
                return await work

        try:
            return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()
        except TimeoutError as error:
            raise ConnectionLost(f"did not answer {what} within {timeout_s:g} s") from error
        except UaStatusCodeError as error:
            raise self._translated(error) from error
        except (*_LOST, UaError) as error:
            raise ConnectionLost(f"lost {what}: {error or type(error).__name__}") from error

    def _translated(self, error: UaStatusCodeError) -> Exception:
        name = type(error).__name__
        if name.startswith(_UNTRUSTED):
            return SimulatorError(
                f"is not trusted by the server: {name}",
                field="simulator.args.certificate",
                value=None if self._security is None else str(self._security.certificate),
                allowed="a certificate that the server trusts",
                hint="have its operator copy the certificate (not the key) to the certificates "
                "that the server trusts, or write `certificate`, `key` and `fingerprint`",
            )
        if name.startswith(_USER):
            return SimulatorError(
                f"the server does not accept this user: {name}",
                field="simulator.args.user",
                value=self._client._username,
                allowed="a user whom the server knows, with the password and the right to write",
                hint="correct `user` and `password`, or have the operator of the server add them",
            )
        if name in _CLOSED:
            return ConnectionLost(f"ended the connection: {name}")
        return SimulatorError(f"the server refuses: {error}", field="simulator.args.url")

    async def _connect(self) -> None:
        if self._security is not None:
            await self._security.secure(self._client)
        await self._client.connect()
        self._found = await browse(self._client, self._handshake.root)
        for part in ("step", "reset", "terminated", "truncated"):
            if name := getattr(self._handshake, part):
                self._one(name, f"simulator.args.{part}")

    async def _turn(self, given: JsonObject, first: bool) -> Answer:
        values = {self._acts[name]: value for name, value in given.items()}
        await self._write(values)
        trigger = self._handshake.reset if first else self._handshake.step
        if trigger is not None:
            await self._pull(trigger)
            if first:
                await self._write(values)  # a reset may have set them to its own start values
        elif not first:
            await asyncio.sleep(max(self._next - time.monotonic(), 0.0))
        if self._handshake.step_s is not None:
            # Counted from the last one, so that the time of the learner is a part of the step.
            late = first or time.monotonic() > self._next + self._handshake.step_s
            self._next = (time.monotonic() if late else self._next) + self._handshake.step_s
        return await self._read()

    async def _write(self, values: Mapping[str, Any]) -> None:
        if not values:
            return
        found = [self._one(name) for name in values]
        pairs = zip(found, values.values(), strict=True)
        try:
            data = [ua.Variant(same_type(one.type, value), one.type) for one, value in pairs]
            results = await self._client.write_values([f.node for f in found], data, False)
        except Exception as error:
            if not isinstance(error, _NOT_HELD) and not isinstance(error.__cause__, _NOT_HELD):
                raise  # asyncua turns some of them into its own
            types = ", ".join(f"{one.channel.name}: {one.type and one.type.name}" for one in found)
            raise SimulatorError(
                f"a variable cannot hold this: {error}",
                field="simulator.agent.acts",
                value=dict(values),
                allowed=f"numbers of these types: {types}",
                hint="correct `min` and `max`, `values`, or the lesson",
            ) from error
        for one, value, result in zip(found, values.values(), results, strict=True):
            if not result.is_good():
                raise SimulatorError(
                    f"the server refuses the value of {one.channel.name}: {result.name}",
                    field="simulator.agent.acts",
                    value=value,
                    allowed="what the server accepts for this user",
                    hint="correct the range, or have its operator allow the user to write it",
                )

    async def _pull(self, name: str) -> None:
        """Calls a method, or sets a Boolean and waits until it is false again."""
        one = self._one(name)
        if one.parent is not None:
            await one.parent.call_method(one.node.nodeid)
            return
        await self._write({name: True})
        pause = _LOOK_S[0]
        while await one.node.read_value():
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_S[1])

    async def _read(self) -> Answer:
        ends = [self._handshake.terminated, self._handshake.truncated]
        names = [*self._reads.values(), *(name for name in ends if name)]
        found = [self._one(name) for name in names]
        nodes = [one.node for one in found]
        answers = await self._client.read_attributes(nodes, ua.AttributeIds.Value)
        values: dict[str, Any] = {}
        for name, answer in zip(names, answers, strict=True):
            status = answer.StatusCode
            if status is not None and status.is_bad():
                if status.name in _CLOSED:
                    raise ConnectionLost(f"ended the connection: {status.name}")
                return {"error": f"{name} has no value: {status.name}"}
            values[name] = answer.Value.Value if answer.Value is not None else None
        states = {name: values[own] for name, own in self._reads.items()}
        over = [bool(values[name]) if name else False for name in ends]
        return {"states": states, "terminated": over[0], "truncated": over[1]}

    def _one(self, name: str, field: str = "simulator.args") -> Found:
        several = self._found.get(name, [])
        if len(several) != 1:
            raise SimulatorError(
                "is there twice on the server" if several else "is not on the server",
                field=field,
                value=name,
                known=None if several else [n for n in self._found if "=" not in n],
                hint="give its node id" if several else None,
            )
        return several[0]
