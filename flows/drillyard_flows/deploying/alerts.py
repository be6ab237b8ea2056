"""Through what people are told: one notification block of the name ``drillyard-alerts``."""

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
"""Prefect's Slack block takes this host only."""


def find(client: SyncPrefectClient) -> UUID | None:
    """The block through which people are told, of whatever type somebody made it.

    Args:
        client: Of the server.

    Returns:
        Its id; None where there is none of this name that can notify. Of several types, the one
        that was written last.
    """
    found = []
    for kind in client.read_block_types():
        for document in client.read_block_documents_by_type(kind.slug, include_secrets=False):
            schema = document.block_schema
            if document.name == NAME and schema and "notify" in (schema.capabilities or []):
                found.append(document)
    newest = max(found, key=lambda d: d.updated.timestamp() if d.updated else 0.0, default=None)
    return UUID(str(newest.id)) if newest else None


def make(address: str) -> UUID:
    """Make the block from an address, or write the one that is there anew.

    Args:
        address: ``https://…`` of a webhook; Slack's own are told in Slack's format. Or where it is
            found, since such addresses are secrets: ``env:NAME``, ``file:PATH``.

    Raises:
        ConfigError: No address of a webhook.
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
            allowed="https://…, http:// on this machine alone, env:NAME or file:PATH",
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
