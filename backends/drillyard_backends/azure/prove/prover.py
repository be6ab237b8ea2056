"""What a proof has to know of Azure: settings, nodes, and what is private."""

from __future__ import annotations

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox
from drillyard.system.clock import Clock
from drillyard_backends.azure import environment
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.prove.jobs import JOBS
from drillyard_backends.azure.prove.reading import READING, STORE
from drillyard_backends.azure.prove.scene import AzureScene
from drillyard_backends.azure.service import Service
from drillyard_backends.prove.probes import Prover, opened


class AzureProver(Prover[AzureScene]):
    """A proof in a workspace of Azure ML.

    Args:
        text: The backend, ``azure`` or ``azure/BLOCK``.
        given: Settings instead of the user's own.
        pace: Factor of all waiting.
        uses: The order of the experiment that is tried; None: the account alone is.

    Raises:
        ConfigError, ConfigErrors: Settings are missing or impossible.
    """

    kind = "azure"
    probes = (*READING, *STORE, *JOBS)
    page = "azure.md"

    def __init__(
        self,
        text: str = "azure",
        given: JsonObject | None = None,
        pace: float = 1.0,
        uses: Order | None = None,
    ) -> None:
        # A cluster of its own, which ends with the proof: a kept one may have jobs of others.
        settings: JsonObject = {
            **(given or {}),
            "compute": None,
            "max_nodes": 1,
            "instance_count": 1,
            "recreate": False,
        }
        backend, known = opened(text, AzureBackend, settings)
        super().__init__(backend, pace, uses, workers=1, settings=known)
        self.config = backend.config
        self.stays = (
            f"environment {self.config.environment or environment.NAME} (your runs use it)",
        )

    def scene(self, order: Order, mailbox: Mailbox, clock: Clock) -> AzureScene:
        """See ``Prover``."""
        return AzureScene(
            self.backend,
            order,
            mailbox,
            clock,
            self.pace,
            config=self.config,
            service=Service(self.config),
        )

    def named(self) -> dict[str, str]:
        """See ``Prover``."""
        config = self.config
        account, _, rest = self.backend.store_url().removeprefix("az://").partition("/")
        return {
            config.subscription_id: "SUBSCRIPTION",
            config.resource_group: "GROUP",
            config.workspace: "WORKSPACE",
            account: "ACCOUNT",
            rest.partition("/")[0]: "CONTAINER",
            config.prefix: "PREFIX",
            (config.identity or "").rpartition("/")[2]: "IDENTITY",
            config.image or "": "IMAGE",
            config.environment or "": "ENVIRONMENT",
            **dict.fromkeys(config.tags.values(), "TAG"),
        }
