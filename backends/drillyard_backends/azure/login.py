"""Who we are to Azure: one chain of sign-ins for the store and for the backend."""

from __future__ import annotations

import functools
import logging
import os
import re
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

SIGN_IN = (
    "az login; or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or a certificate)"
)
IDENTITY = "DEFAULT_IDENTITY_CLIENT_ID"
"""Azure ML's own variable in a job: the client id of the cluster's identity, user-assigned or
system-assigned; the word ``clientid`` where it has none. Without the id there is no token, or
one of the person who is signed in at the node."""


@functools.cache
def credential() -> DefaultAzureCredential:
    """The usual chain: environment, workload, managed identity (in a job), ``az login``.

    One for the process: it keeps its tokens.
    """
    from azure.identity import DefaultAzureCredential

    # It logs every request at "info", and each sign-in that it tries and does not find.
    logging.getLogger("azure").setLevel(logging.ERROR)
    identity = _identity_of_job()
    if identity is None:
        return DefaultAzureCredential()
    return DefaultAzureCredential(managed_identity_client_id=identity)


def _identity_of_job() -> str | None:
    """The client id that tokens are asked for with; None outside of jobs."""
    try:
        return str(UUID(os.environ.get(IDENTITY, "")))
    except ValueError:
        return None


def refusal(error: Exception) -> str:
    """Why a sign-in failed: Entra's own words, out of a page about every way that was tried."""
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    said = re.search(r"AADSTS\d+: [^\n]*", text)
    return (said[0] if said else text.strip().splitlines()[0])[:500]
