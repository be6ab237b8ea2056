"""``simulator: {id: opcua}``: the arguments of an experiment, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drillyard.errors import SimulatorError
from drillyard.simulators.opcua.security import Security
from drillyard.simulators.opcua.session import Handshake, OpcUaSession
from drillyard.simulators.reached import Reached


class OpcUa(Reached):
    """A simulator behind an OPC UA server.

    Args:
        url: ``opc.tcp://HOST:PORT``, with a path where the server has one.
        names: A name for the experiment -> a name or a node id of the server.
        root: Name or node id of the node under which names begin; by default the folder Objects.
        step: A method that makes one step and returns when it is done, or a Boolean that the
            server sets back to false then.
        step_s: Without ``step``: seconds of real time from one step to the next.
        reset: As ``step``: begins an episode. What a lesson draws is written before
            and after it.
        terminated: A Boolean that is true when an episode has ended by itself.
        truncated: A Boolean that is true when the time is up.
        command: Starts a server for each copy: ``python server.py --port {port}``; ``url`` then
            has ``{port}``. Without it, the server runs already.
        ends: A condition that ends the episode: ``level > 1.9``.
        certificate: The client's certificate (``.der``, ``.pem``); with it, messages are signed
            and encrypted.
        key: Its private key, a file of the machine that trains; it never travels.
        fingerprint: SHA-256 of the server's certificate.
        policy: Security policy: ``Basic256Sha256``, ``Aes128Sha256RsaOaep`` or
            ``Aes256Sha256RsaPss``.
        user: Name of a user.
        password: The password of that user: ``"${env:PLANT_PASSWORD}"``.
        start_timeout_s: Longest time until the server is reached, in seconds.
        step_timeout_s: Longest time of a step, in seconds.
        restarts_per_hour: More lost connections end the run.

    Raises:
        SimulatorError: An argument that cannot be used.
    """

    def __init__(
        self,
        url: str,
        names: Mapping[str, str] | None = None,
        command: str | Sequence[str] | None = None,
        root: str | None = None,
        step: str | None = None,
        step_s: float | None = None,
        reset: str | None = None,
        terminated: str | None = None,
        truncated: str | None = None,
        ends: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        fingerprint: str | None = None,
        policy: str = "Basic256Sha256",
        user: str | None = None,
        password: str | None = None,
        start_timeout_s: float = 60.0,
        step_timeout_s: float = 30.0,
        restarts_per_hour: int = 5,
    ) -> None:
        if not str(url).startswith("opc.tcp://"):
            raise _wrong("url", "is not an address of OPC UA", url, "opc.tcp://HOST:PORT")
        if (step is None) == (step_s is None):
            raise _wrong("step", "needs one of `step` and `step_s`", step, "a node, or step_s: 1")
        if step_s is not None and not step_s > 0:
            raise _wrong("step_s", "is out of range", step_s, "seconds above 0")
        security = None
        if certificate is not None or key is not None:
            paths = [_file(n, f) for n, f in (("certificate", certificate), ("key", key))]
            security = Security(paths[0], paths[1], fingerprint, policy)
        elif password is not None:
            raise _wrong(
                "password",
                "would be sent without encryption",
                None,
                "a password together with `certificate`, `key` and `fingerprint`",
            )
        handshake = Handshake(root, step, step_s, reset, terminated, truncated)

        def make(address: str) -> OpcUaSession:
            return OpcUaSession(address, handshake, security, user, password, step_timeout_s)

        limits = start_timeout_s, step_timeout_s, restarts_per_hour
        super().__init__(url, make, names, ends, command, *limits)


def _file(name: str, given: str | None) -> Path:
    path = Path(given or "").expanduser()
    if given is None or not (path.is_absolute() and path.is_file()):
        lacking = "does not exist on this machine" if path.is_absolute() else "is a relative path"
        raise _wrong(
            name,
            "is missing" if given is None else lacking,
            given,
            "an absolute path, or one that begins with ~; the certificate and its private key "
            "belong together",
            "copy both to each machine that trains: private keys do not travel",
        )
    return path


def _wrong(name: str, message: str, value: Any, allowed: str, hint: str = "") -> SimulatorError:
    hint = hint or "see the page Use a simulator behind OPC UA"
    field = f"simulator.args.{name}"
    return SimulatorError(message, field=field, value=value, allowed=allowed, hint=hint)
