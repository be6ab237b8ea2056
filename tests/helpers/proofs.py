"""Proofs on the emulated clouds: short ones, and ones that are killed at a request."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from drillyard.mailbox import driver_lock
from drillyard_backends.azure.prove import AzureProver
from drillyard_backends.gcp.prove import GcpProver
from drillyard_backends.prove.probes import Observation, Prover, Verdict
from drillyard_backends.prove.runner import Proof, Report
from drillyard_emulators.azure.model import OVER
from drillyard_emulators.http.handle import AzureEmulator, GcpEmulator
from tests.helpers.azure_lab import named

PACE = 0.02
CHANGES = re.compile(r"(POST|PUT|DELETE|PATCH) https://(compute|management)\.(?!.*/wait\b)")
"""Requests that create, change or delete something that costs money."""


class Killed(BaseException):
    """The process was killed: no handler of errors sees it."""


@contextmanager
def killed_at(number: int, pattern: re.Pattern[str]) -> Iterator[list[str]]:
    """Kill this process's proof after the n-th request that matches; nothing is sent after it.

    Yields:
        The requests that matched.
    """
    seen: list[str] = []
    real, patch = requests.Session.send, pytest.MonkeyPatch()
    me = threading.main_thread()

    def send(self: requests.Session, request: Any, **more: Any) -> Any:
        if threading.current_thread() is not me:
            if len(seen) >= number:
                raise requests.ConnectionError("killed")
            return real(self, request, **more)
        if len(seen) >= number:
            raise Killed
        matches = pattern.match(f"{request.method} {request.url}")
        answer = real(self, request, **more)
        if matches:
            seen.append(f"{request.method} {request.url}")
            if len(seen) >= number:
                raise Killed
        return answer

    patch.setattr(requests.Session, "send", send)
    try:
        yield seen
    except Killed:
        pass
    finally:
        patch.undo()
        driver_lock._HELD.clear()  # as the end of the process does


def verdicts(report: Report, claim: str) -> list[Observation]:
    """What was seen about a claim."""
    return [one for one in report.observations if one.claim.id == claim]


def verdict(report: Report, claim: str) -> Verdict:
    """What was found about a claim."""
    found = verdicts(report, claim)
    assert found, f"nothing was said about {claim}"
    assert not found[0].evidence.startswith("unexpected: "), found[0].evidence
    return found[0].verdict


def proof(prover: Prover[Any], home: Path, max_cost: float = 2.0) -> Report:
    """A whole proof."""
    return Proof(prover, max_cost, home=home).run()


def gcp_settings(cloud: GcpEmulator, **more: Any) -> dict[str, Any]:
    """Settings of an emulated project."""
    cloud.ask("catalogue", images=["drillyard"])
    return {
        "project": cloud.project,
        "bucket": f"lab-{uuid.uuid4().hex[:8]}",
        "service_account": cloud.service_account,
        "image": f"projects/{cloud.project}/global/images/drillyard",
        "listing_lag_s": 0.0,
        **more,
    }


def gcp_prover(settings: dict[str, Any], pace: float = PACE) -> GcpProver:
    """A prover whose waiting is short."""
    return GcpProver(given=settings, pace=pace)


def azure_settings(cloud: AzureEmulator, **more: Any) -> dict[str, Any]:
    """Settings of an emulated workspace, with a folder of their own."""
    prefix = f"prove-{uuid.uuid4().hex[:8]}"
    return named(
        cloud,
        image=f"mcr.example/drillyard:{prefix}",
        prefix=prefix,
        **{"listing_lag_s": 0.0, **more},
    )


def azure_prover(settings: dict[str, Any], pace: float = PACE) -> AzureProver:
    """A prover whose waiting is short."""
    return AzureProver(given=settings, pace=pace)


def nothing_left_at_google(cloud: GcpEmulator, settings: dict[str, Any], home: Path) -> None:
    """By the emulator's own books, in the bucket and on this machine."""
    state = cloud.state()
    left = {k: state[k] for k in ("machines", "groups", "disks") if state[k]}
    left["templates"] = sorted(set(state["templates"]) - set(state["furnished"]))
    assert left == {"templates": []}
    if settings["bucket"] in state["buckets"]:
        assert _kept(cloud.ask("objects", bucket=settings["bucket"])) == []
    assert not list((home / "intents").glob("*"))


def nothing_left_at_azure(cloud: AzureEmulator, settings: dict[str, Any], home: Path) -> None:
    """By the emulator's own books, in the container and on this machine."""
    state = cloud.state()
    assert state["computes"] == {}
    assert {n: j["status"] for n, j in state["jobs"].items() if j["status"] not in OVER} == {}
    assert [n["name"] for n in state["nodes"] if n["gone"] is None] == []
    assert _kept(cloud.ask("objects", container=cloud.container, prefix=settings["prefix"])) == []
    assert not list((home / "intents").glob("*"))


def _kept(keys: list[str]) -> list[str]:
    """Keys without those of ``check_store`` and ``check_flat``, which stay if these are killed."""
    return [key for key in keys if not any(part.startswith("canary-") for part in key.split("/"))]
