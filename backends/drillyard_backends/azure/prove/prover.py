"""What a proof has to know of Azure: settings, nodes, and what is private."""

from __future__ import annotations

from drillyard.backend import Order, open_backend
from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox
from drillyard.system.clock import Clock
from drillyard.system.safe_names import user_name
from drillyard_backends.azure import environment, prices
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.prove.jobs import JOBS
from drillyard_backends.azure.prove.reading import READING, STORE
from drillyard_backends.azure.prove.scene import AzureScene
from drillyard_backends.azure.service import Service
from drillyard_backends.prove.lease import EXPERIMENT


class AzureProver:
    """A proof in a workspace of Azure ML.

    Args:
        text: The backend, ``azure`` or ``azure/BLOCK``.
        given: Settings instead of the user's own.
        pace: Factor of all waiting.

    Raises:
        ConfigError, ConfigErrors: Settings are missing or impossible.
    """

    kind = "azure"
    probes = (*READING, *STORE, *JOBS)
    page = "azure.md"

    def __init__(
        self, text: str = "azure", given: JsonObject | None = None, pace: float = 1.0
    ) -> None:
        # A cluster of its own, which ends with the proof: a kept one may have jobs of others.
        own: JsonObject = {
            **(given or {}),
            "compute": None,
            "max_nodes": 1,
            "instance_count": 1,
            "recreate": False,
        }
        backend = open_backend(text, own)
        if not isinstance(backend, AzureBackend):
            raise TypeError(f"{text} is not Azure")
        self.backend: AzureBackend = backend
        self.config = backend.config
        self.pace = pace
        self.stays = (
            f"environment {self.config.environment or environment.NAME} (your runs use it)",
        )

    def order(self, lease_id: str, store_url: str, deadline: float) -> Order:
        """See ``Prover``."""
        return Order(
            lease_id=lease_id,
            experiment=EXPERIMENT,
            store_url=store_url,
            workers=1,
            deadline=deadline,
            deadline_of="drillyard prove",
        )

    def scene(self, order: Order, mailbox: Mailbox, clock: Clock) -> AzureScene:
        """See ``Prover``."""
        return AzureScene(
            self.backend,
            order,
            mailbox,
            clock,
            pace=self.pace,
            config=self.config,
            service=Service(self.config),
        )

    def priced(self) -> bool:
        """See ``Prover``."""
        return prices.price(self.config.vm_size, self.config.low_priority) is not None

    def store_url(self) -> str:
        """See ``Prover``."""
        return self.backend.store_url()

    def prepare(self, store_url: str) -> None:
        """See ``Prover``."""
        self.backend.prepare_store(store_url)

    def private(self) -> dict[str, str]:
        """See ``Prover``."""
        config = self.config
        account, _, rest = self.store_url().removeprefix("az://").partition("/")
        named = {
            config.subscription_id: "SUBSCRIPTION",
            config.resource_group: "GROUP",
            config.workspace: "WORKSPACE",
            account: "ACCOUNT",
            rest.partition("/")[0]: "CONTAINER",
            config.prefix: "PREFIX",
            (config.identity or "").rpartition("/")[2]: "IDENTITY",
            config.image or "": "IMAGE",
            config.environment or "": "ENVIRONMENT",
            user_name(): "USER",
            **dict.fromkeys(config.tags.values(), "TAG"),
        }
        usual = {"drillyard", "root"}
        return {value: word for value, word in named.items() if value and value not in usual}
