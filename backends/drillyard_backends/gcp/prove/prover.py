"""What a proof has to know of Google Cloud: settings, machines, and what is private."""

from __future__ import annotations

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox
from drillyard.system.clock import Clock
from drillyard_backends.gcp import prices
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.operations import Compute
from drillyard_backends.gcp.prove.machines import MACHINES
from drillyard_backends.gcp.prove.reading import READING, STORE
from drillyard_backends.gcp.prove.scene import GcpScene
from drillyard_backends.gcp.read_only_client import Reader
from drillyard_backends.prove.probes import Prover, opened

IDLE_S = 60.0
"""Seconds without work after which the machines of a proof end themselves."""
MACHINES_OF_A_PROOF = 2
"""One is taken away, the other ends itself."""


class GcpProver(Prover[GcpScene]):
    """A proof in a project of Google Cloud.

    Args:
        text: The backend, ``gcp`` or ``gcp/BLOCK``.
        given: Settings instead of the user's own.
        pace: Factor of all waiting.
        uses: The order of the experiment that is tried; None: the account alone is.

    Raises:
        ConfigError, ConfigErrors: Settings are missing or impossible.
    """

    kind = "gcp"
    probes = (*READING, *STORE, *MACHINES)
    page = "google-cloud.md"
    usual = Prover.usual | {"default", "dy"}

    def __init__(
        self,
        text: str = "gcp",
        given: JsonObject | None = None,
        pace: float = 1.0,
        uses: Order | None = None,
    ) -> None:
        settings: JsonObject = {
            **(given or {}),
            "idle_s": max(1.0, IDLE_S * pace),
            "workers_per_machine": 1,
            "on_demand_after": None,
            "on_demand_when_full": False,
            "replacements": 0,
        }
        backend, known = opened(text, GcpBackend, settings)
        config = backend.config
        cheapest = min(
            config.machine_types,
            key=lambda name: prices.price(name, config.region, config.spot) or 1e9,
        )
        if config.machine_types != [cheapest]:
            settings["machine_types"] = [cheapest]
            backend, known = opened(text, GcpBackend, settings)
        self.config = backend.config
        several = {"workers": MACHINES_OF_A_PROOF, "idle_s": self.config.idle_s}
        super().__init__(backend, pace, uses, settings=known, **several)
        self.stays = (f"bucket gs://{self.config.bucket} (your runs use it)",)

    def scene(self, order: Order, mailbox: Mailbox, clock: Clock) -> GcpScene:
        """See ``Prover``."""
        compute = Compute(self.config.project)
        return GcpScene(
            self.backend,
            order,
            mailbox,
            clock,
            self.pace,
            config=self.config,
            reader=Reader(self.config.project, clock=clock),
            compute=compute,
            groups=Groups(compute, self.config.group_prefix),
        )

    def named(self) -> dict[str, str]:
        """See ``Prover``."""
        config = self.config
        return {
            config.project: "PROJECT",
            config.bucket: "BUCKET",
            config.service_account: "EMAIL",
            config.service_account.partition("@")[0]: "ACCOUNT",
            config.network: "NETWORK",
            config.subnetwork or "": "SUBNETWORK",
            config.prefix: "PREFIX",
            config.group_prefix: "GROUP_PREFIX",
            config.image or "": "IMAGE",
            config.template or "": "TEMPLATE",
            config.container or "": "CONTAINER",
            **dict.fromkeys(config.labels.values(), "LABEL"),
        }
