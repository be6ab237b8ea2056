"""Proofs on the emulated clouds: short ones, and ones that are killed at a request."""

from __future__ import annotations

import re
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from drillyard.backend import Order
from drillyard.mailbox import driver_lock
from drillyard_backends.azure.prove import AzureProver
from drillyard_backends.gcp.prove import GcpProver
from drillyard_backends.prove.probes import Observation, Verdict
from drillyard_backends.prove.runner import Proof, Report
from drillyard_emulators.azure.model import OVER
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


class ProofBench(ABC):
    """Proofs on one emulated cloud, in a folder of their own.

    Args:
        cloud: That claims are tested on.
        home: drillyard's folder on this machine.
    """

    create: re.Pattern[str]
    """The request that creates the first thing that costs money."""
    waits: tuple[str, ...]
    """Names of the probes that wait for machines to work; they create nothing."""

    def __init__(self, cloud: Any, home: Path) -> None:
        self.cloud, self.home = cloud, home
        self.settings = self.new_settings()

    @abstractmethod
    def new_settings(self) -> dict[str, Any]:
        """Settings of the backend, with a store of their own."""

    @abstractmethod
    def prover(self, pace: float = PACE, **more: Any) -> Any:
        """A prover whose waiting is short; ``more`` are further settings."""

    @abstractmethod
    def left(self) -> object:
        """What the emulator's own books still have, and the store."""

    def proof(self, prover: Any = None, **more: Any) -> Report:
        """A whole proof."""
        return Proof(prover or self.prover(**more), 2.0, home=self.home).run()

    def bodiless(self) -> Any:
        """A prover without the probes that wait for machines."""
        return self.only(lambda probe: not probe.reads and probe.name not in self.waits)

    def only(self, wanted: Callable[[Any], bool]) -> Any:
        """A prover with some of its probes."""
        prover = self.prover()
        prover.probes = tuple(filter(wanted, prover.probes))
        return prover

    def killed(
        self, number: int, pattern: re.Pattern[str], what: Callable[[], object] | None = None
    ) -> bool:
        """Kill a proof after the n-th request that matches; False if it came to its end."""
        with killed_at(number, pattern) as seen:
            (what or (lambda: self.proof(self.bodiless())))()
        return len(seen) >= number

    def finish(self, home: Path | None = None) -> Report:
        """The same command again, as far as it matters here: it finishes what is left."""
        prover = self.only(lambda probe: not probe.paid and not probe.reads)
        return Proof(prover, 2.0, home=home or self.home).run()

    def nothing_left(self) -> None:
        """By the emulator's own books, in the store and on this machine."""
        assert not self.left()
        assert not list((self.home / "intents").glob("*"))


class GcpBench(ProofBench):
    """Proofs on the emulated Google Cloud."""

    create = re.compile("POST .*/createInstances")
    waits = ("a token on a machine", "a machine ends itself", "preemption")

    def new_settings(self) -> dict[str, Any]:
        self.cloud.ask("catalogue", images=["drillyard"])
        return {
            "project": self.cloud.project,
            "bucket": f"lab-{uuid.uuid4().hex[:8]}",
            "service_account": self.cloud.service_account,
            "image": f"projects/{self.cloud.project}/global/images/drillyard",
            "listing_lag_s": 0.0,
        }

    def prover(self, pace: float = PACE, uses: Order | None = None, **more: Any) -> GcpProver:
        return GcpProver(given={**self.settings, **more}, pace=pace, uses=uses)

    def left(self) -> object:
        state, bucket = self.cloud.state(), self.settings["bucket"]
        kept = self.cloud.ask("objects", bucket=bucket) if bucket in state["buckets"] else []
        found = [state[kind] for kind in ("machines", "groups", "disks") if state[kind]]
        return [*found, *(set(state["templates"]) - set(state["furnished"])), *_kept(kept)]


class AzureBench(ProofBench):
    """Proofs in the emulated workspace."""

    create = re.compile("PUT .*/jobs/")
    waits = ("a token in a job",)

    def new_settings(self) -> dict[str, Any]:
        prefix = f"prove-{uuid.uuid4().hex[:8]}"
        image = f"mcr.example/drillyard:{prefix}"
        return named(self.cloud, image=image, prefix=prefix, listing_lag_s=0.0)

    def prover(self, pace: float = PACE, uses: Order | None = None, **more: Any) -> AzureProver:
        return AzureProver(given={**self.settings, **more}, pace=pace, uses=uses)

    def left(self) -> object:
        state, prefix = self.cloud.state(), self.settings["prefix"]
        jobs = [n for n, job in state["jobs"].items() if job["status"] not in OVER]
        nodes = [node["name"] for node in state["nodes"] if node["gone"] is None]
        kept = self.cloud.ask("objects", container=self.cloud.container, prefix=prefix)
        return [*state["computes"], *jobs, *nodes, *_kept(kept)]


def _kept(keys: list[str]) -> list[str]:
    """Keys without those of ``check_store`` and ``check_flat``, which stay if these are killed."""
    return [key for key in keys if not any(part.startswith("canary-") for part in key.split("/"))]
