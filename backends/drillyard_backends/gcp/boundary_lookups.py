"""Keeps a background request of google-auth out of the logs.

Credentials of a service account ask in the background where they may be used
(``iamcredentials.googleapis.com/…/allowedLocations``), and work without an answer. On a network
that does not let this through, urllib3 warns of each try, in the middle of a run's log.
Source: ``google/auth/_regional_access_boundary_utils.py`` of google-auth 2.62.
"""

from __future__ import annotations

import logging

_WORDS = ("/allowedLocations", "Regional Access Boundary")
_LOGGERS = (
    "urllib3.connectionpool",
    "google.oauth2._client",
    "google.auth._regional_access_boundary_utils",
    "google.auth.credentials",
    "google.auth.compute_engine.credentials",
)


class _Without(logging.Filter):
    """Drops what is said about this request, at any level."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for such a record."""
        text = record.getMessage()
        return not any(word in text for word in _WORDS)


_FILTER = _Without()


def silence() -> None:
    """Install the filter; safe to call again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
