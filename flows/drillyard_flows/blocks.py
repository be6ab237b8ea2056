"""Named backend settings and secrets, kept by Prefect: ``backend: gcp/prod``, ``secret:NAME``."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from prefect.blocks.system import Secret
from pydantic import Field

from drillyard.errors import ConfigError


class DrillyardBackend(Block):
    """Settings of a backend under a name; in an experiment: ``backend: <kind>/<name>``."""

    _block_type_name = "drillyard backend"
    _block_type_slug = "drillyard-backend"

    kind: str = Field(description="The backend: local, gcp, azure, …")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings by name.")
    # A mapping of secrets would be sent and shown in the open; a secret mapping is not (3.9.1).
    secrets: SecretDict = Field(
        default_factory=lambda: SecretDict({}), description="Secret settings by name."
    )


class PrefectBlocks:
    """What ``drillyard.settings`` asks; see ``drillyard.settings.Blocks``."""

    def settings(self, kind: str, name: str) -> tuple[dict[str, Any], set[str]]:
        """See ``Blocks.settings``."""
        block = _loaded(DrillyardBackend, name, f"backend {kind}/{name}")
        if block.kind != kind:
            raise ConfigError(
                f"the Prefect block {name!r} is for the backend {block.kind!r}",
                field="backend", value=f"{kind}/{name}", hint=f"backend: {block.kind}/{name}",
            )  # fmt: skip
        secrets = dict(block.secrets.get_secret_value())
        return {**block.settings, **secrets}, set(secrets)

    def secret(self, name: str) -> str:
        """See ``Blocks.secret``."""
        value = _loaded(Secret, name, f"secret:{name}").get()
        return str(value)


def _loaded(kind: Any, name: str, shown: str) -> Any:
    try:
        return kind.load(name)
    except ValueError:  # what Prefect says of a block that is not there
        raise ConfigError(
            f"Prefect has no {kind._block_type_slug or 'secret'} block {name!r}", value=shown,
            hint="make it in Prefect's UI, or with DrillyardBackend(...).save(name)",
        ) from None  # fmt: skip
    except Exception as error:
        raise ConfigError(
            f"Prefect's blocks cannot be read: {type(error).__name__}", value=shown,
            hint="look at PREFECT_API_URL; or give the value as env:NAME or file:PATH",
        ) from error  # fmt: skip
