"""A stirred, heated mixing tank behind an OPC UA server, as a plant's own simulator would be.

This is asyncua's real server; it was not tried against a server of a vendor. Written from OPC
10000-8 (analog items: EURange, EngineeringUnits) and OPC 10000-4 (sessions, security).

    python experiments/mixer/server.py --port 48400
    python experiments/mixer/server.py --port 48400 --secure FOLDER    # certificates, a user
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import logging
import signal
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from cryptography.x509.oid import ExtendedKeyUsageOID

log = logging.getLogger("mixer")
URI = "urn:example.org:mixer"
COLD_C, LOSS, VOLUME_L, CP = 12.0, 0.35, 180.0, 4.186
"""Inlet in °C, loss in kW/K, litres, and kJ/(kg K)."""
CHANGE_S = 300.0
"""When the flow changes, in seconds."""
RANGES = {
    "Temperature": ("°C", 0, 100, 40.0),
    "Setpoint": ("°C", 30, 70, 50.0),
    "Flow": ("L/min", 0, 60, 20.0),
    "FlowLater": ("L/min", 0, 60, 20.0),
    "Heater": ("kW", 0, 120, 0.0),
    "Time": ("s", 0, 1e9, 0.0),
    "Energy": ("kWh", 0, 1e6, 0.0),
}


class Operators:
    """Who may sign in: the operator, with this password."""

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        """The user of a session; None refuses it."""
        if (username, password) == ("operator", "stir-it"):
            return User(role=UserRole.Admin, name=username)
        return None


async def mixer(port: int, secure: Path | None = None) -> Server:
    """A server that is not started yet."""
    server = Server(user_manager=Operators() if secure else None)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/mixer")
    await server.set_application_uri(URI)
    if secure:
        await protect(server, secure)
    index = await server.register_namespace(URI)
    tank = await server.nodes.objects.add_object(index, "Mixer")
    nodes = {}
    for name, (unit, low, high, value) in RANGES.items():
        node = nodes[name] = await tank.add_variable(index, name, float(value))
        await node.add_property(0, "EURange", ua.Range(Low=float(low), High=float(high)))
        text = ua.LocalizedText(unit)
        await node.add_property(0, "EngineeringUnits", ua.EUInformation(DisplayName=text))
    for name in ("Temperature", "Setpoint", "Flow", "FlowLater", "Heater"):
        await nodes[name].set_writable()

    async def step(_: ua.NodeId) -> list[ua.Variant]:
        """Ten seconds."""
        v = {name: await node.read_value() for name, node in nodes.items()}
        if v["Time"] == CHANGE_S:
            v["Flow"] = v["FlowLater"]
        heat = min(max(v["Heater"], 0.0), 120.0)
        for _ in range(10):
            cold = v["Flow"] / 60 * CP * (v["Temperature"] - COLD_C)
            net = heat - cold - LOSS * (v["Temperature"] - 20.0) / 10
            v["Temperature"] += net / (VOLUME_L * CP)
        v["Time"] += 10.0
        v["Energy"] += heat / 360
        for name in ("Temperature", "Flow", "Time", "Energy"):
            await nodes[name].write_value(v[name])
        return []

    async def reset(_: ua.NodeId) -> list[ua.Variant]:
        for name, (_, _, _, value) in RANGES.items():
            await nodes[name].write_value(float(value))
        return []

    await tank.add_method(index, "Step", step)
    await tank.add_method(index, "Reset", reset)
    return server


async def protect(server: Server, folder: Path) -> None:
    """Only signed and encrypted connections of clients whose certificates are in ``trusted``."""
    (folder / "trusted").mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "server.pem", folder / "server.der"
    uses = [ExtendedKeyUsageOID.SERVER_AUTH]
    await setup_self_signed_certificate(key, certificate, URI, "localhost", uses, {})
    (folder / "trusted/server.der").write_bytes(certificate.read_bytes())  # it may not be empty
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    policy = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
    server.set_security_policy([policy], permission_ruleset=SimpleRoleRuleset())
    server.set_identity_tokens([ua.UserNameIdentityToken])
    store = TrustStore([folder / "trusted"], [])
    await store.load()
    options = CertificateValidatorOptions.TRUSTED_VALIDATION
    server.set_certificate_validator(CertificateValidator(options, store))
    log.info("fingerprint %s", hashlib.sha256(certificate.read_bytes()).hexdigest())


async def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=48400)
    parser.add_argument("--secure", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    async with await mixer(args.port, args.secure):
        log.info("listening at opc.tcp://127.0.0.1:%d/mixer", args.port)
        with contextlib.suppress(asyncio.CancelledError):
            await done.wait()


if __name__ == "__main__":
    asyncio.run(main())
