"""What a machine of Google Cloud knows of itself, from its metadata server. Standard library only.

``GCE_METADATA_HOST`` moves the server, as for Google's own libraries.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from threading import Thread

from drillyard.errors import InfrastructureError

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TIMEOUT_S = 10.0
PATIENCE_S = 60.0
WATCH_S = 60
"""One long poll."""


class Metadata:
    """The metadata server of this machine."""

    def __init__(self) -> None:
        host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
        self._root = f"http://{host}/computeMetadata/v1"

    def text(self, path: str) -> str | None:
        """A value, or None where there is none.

        Args:
            path: Such as ``instance/name``.

        Raises:
            InfrastructureError: The server does not answer.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._ask(path, TIMEOUT_S)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise InfrastructureError(
                        f"the metadata server does not answer: {error}",
                        hint="this program runs on a machine of Google Compute Engine only",
                    ) from error
                time.sleep(1.0)

    def need(self, path: str) -> str:
        """A value that must be there.

        Raises:
            InfrastructureError: It is not, or the server does not answer.
        """
        value = self.text(path)
        if value is None:
            raise InfrastructureError(f"this machine has no {path} in its metadata")
        return value

    def attribute(self, name: str) -> str | None:
        """What this machine was told under a name when it was made."""
        return self.text(f"instance/attributes/{name}")

    def when_preempted(self, tell: Callable[[], None]) -> None:
        """Call something once this machine is being taken away; from a thread of its own.

        The operating system's signal says the same, sometimes earlier, sometimes later.
        """
        Thread(target=self._watch, args=(tell,), name="preempted", daemon=True).start()

    def _watch(self, tell: Callable[[], None]) -> None:
        query = f"instance/preempted?wait_for_change=true&timeout_sec={WATCH_S}"
        try:
            self.text("instance/preempted")  # the server is there
            path, timeout_s = "instance/preempted", TIMEOUT_S
            while True:
                began = time.monotonic()
                try:
                    value, etag = self._open(path, timeout_s)
                    if value == "TRUE":
                        return tell()
                    # A change between two questions is seen only by who says what was known.
                    path = f"{query}&last_etag={etag}" if etag else query
                    timeout_s = WATCH_S + TIMEOUT_S
                except OSError:
                    time.sleep(2.0)
                # A server that answers at once must not be asked all the time.
                time.sleep(max(0.0, 0.5 - (time.monotonic() - began)))
        except InfrastructureError:
            return None

    def _ask(self, path: str, timeout_s: float) -> str | None:
        return self._open(path, timeout_s)[0]

    def _open(self, path: str, timeout_s: float) -> tuple[str | None, str]:
        """A value, None where there is none, and its ETag."""
        request = urllib.request.Request(
            f"{self._root}/{path}", headers={"Metadata-Flavor": "Google"}
        )
        try:
            with _DIRECT.open(request, timeout=timeout_s) as answer:
                return str(answer.read().decode()), str(answer.headers.get("ETag") or "")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None, ""
            raise
