"""The notification block ``drillyard-alerts``, which sends alerts to people."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from drillyard.backend.settings.references import reveal
from drillyard.errors import ConfigError
from drillyard.spec.webhook_url import problem_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

NAME = "drillyard-alerts"
SLACK = "hooks.slack.com"
"""Prefect's Slack block accepts this host only."""


def find(client: SyncPrefectClient) -> UUID | None:
    """Finds the block for alerts, of any type that can notify.

    Args:
        client: Client of the server.

    Returns:
        The block's id, or None if there is none. If several types have such a block, the newest.
    """
    documents = []
    for kind in client.read_block_types():
        for document in client.read_block_documents_by_type(kind.slug, include_secrets=False):
            schema = document.block_schema
            if document.name == NAME and schema and "notify" in (schema.capabilities or []):
                documents.append(document)
    newest = max(
        documents, key=lambda d: d.updated.timestamp() if d.updated else 0.0, default=None
    )
    return UUID(str(newest.id)) if newest else None


def make(address: str) -> UUID:
    """Creates or overwrites the block with an address.

    Args:
        address: ``https://…`` of a webhook (a Slack webhook gets Slack's format); or a reference,
            because such addresses are secrets: ``env:NAME``, ``file:PATH``.

    Raises:
        ConfigError: The address is not a webhook's.
    """
    from prefect.blocks.fields import SecretDict
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
    from pydantic import SecretStr

    url = str(reveal(address, "--alerts", secret=True))
    problem = problem_of(url)
    if problem is not None:
        raise ConfigError(
            problem,
            file="--alerts",
            value="***",
            allowed="https://…, http:// only on this machine, env:NAME or file:PATH",
            hint="--alerts file:~/.slack-webhook",
        )
    block = (
        SlackWebhook(url=SecretStr(url))
        if urlsplit(url).hostname == SLACK
        else CustomWebhookNotificationBlock(
            name=NAME,
            url="{{address}}",
            secrets=SecretDict({"address": url}),
            json_data={"subject": "{{subject}}", "text": "{{body}}"},
        )
    )
    return UUID(str(block.save(NAME, overwrite=True)))
