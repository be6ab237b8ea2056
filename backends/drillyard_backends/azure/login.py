"""Who we are to Azure: one chain of sign-ins for the store and for the backend."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from drillyard import __version__

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

AGENT = f"drillyard/{__version__}"
"""Begins the header ``User-Agent`` of the calls."""
SIGN_IN = (
    "az login; or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or a certificate)"
)
SIGN_IN_AWAY = (
    "check the network connection and the proxy (HTTPS_PROXY) of this machine; a busy sign-in "
    "recovers by itself"
)
_LONGEST = 500
_AWAY = re.compile(
    r"ProxyError|NameResolutionError|NewConnectionError|Max retries exceeded|Connection (aborted"
    r"|refused|reset)|Remote end closed|timed out|SSLError|CERTIFICATE_VERIFY_FAILED"
    r"|Failed to (resolve|establish)|too[ _]?many[ _]?requests|throttl|\b429\b",
    re.I,
)
"""Words of the libraries for a network or a sign-in that does not answer. azure-identity keeps
the text of an error and not the error itself."""
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
    """Returns why a sign-in failed: Entra's own words, else those of the way that was tried last.

    azure-identity lists every way of its chain. It goes on after a way that is not set up, so the
    last one is the one that failed; if none is set up, the first line says so.
    """
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    entra = re.search(r"AADSTS\d+: [^\n]*", text)
    if entra is not None:
        return entra[0][:_LONGEST]
    return busy(text.splitlines()) or text.strip().splitlines()[0][:_LONGEST]


def away(error: Exception) -> bool:
    """Returns whether a sign-in was not refused: it was not reached, or it was too busy."""
    return bool(busy(str(getattr(error, "message", "") or error).splitlines()))


def busy(lines: Sequence[str]) -> str:
    """Returns the line that says that a sign-in did not answer; empty if it was refused.

    Args:
        lines: The text of an error of azure-identity, or a job's log with one.
    """
    if any("AADSTS" in line for line in lines):
        return ""
    unanswered = [line.strip() for line in lines if _AWAY.search(line)]
    return unanswered[-1][:_LONGEST] if unanswered else ""
