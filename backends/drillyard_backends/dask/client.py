"""Speaking to a Dask scheduler: the one seam where Dask's errors become ours.

Every call ends within a bound: a scheduler or worker that is stopped does not say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    from distributed import Client

_clients: dict[tuple[str, str], Client] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class SchedulerAddress:
    """How a scheduler is reached.

    Attributes:
        address: Of the scheduler.
        security: Arguments of ``distributed.Security``; empty without TLS.
        timeout_s: Bound of one call.
    """

    address: str
    security: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 10.0

    @property
    def _key(self) -> tuple[str, str]:
        return self.address, str(self.security.get("tls_client_cert", ""))

    def client(self) -> Client:
        """The client of this process for the scheduler, connected.

        Raises:
            InfrastructureError: The scheduler does not answer.
            UserError: Dask is not installed, or TLS is refused.
        """
        try:
            from distributed import Client, Security
        except ImportError as error:
            raise UserError(f"Dask is not installed here: {error}", hint=install("dask")) from None
        # What it says of lost connections is said by us, with what follows from it.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        with _lock:
            client = _clients.get(self._key)
            if client is not None and client.status == "running":
                return client
            if client is not None:
                del _clients[self._key]
                _end(client)
            with self.seam():
                client = _clients[self._key] = Client(
                    self.address,
                    timeout=self.timeout_s,
                    set_as_default=False,
                    security=Security(**self.security) if self.security else None,
                )
            return client

    def forget(self) -> None:
        """Close this process's connection, where there is one."""
        with _lock:
            client = _clients.pop(self._key, None)
        if client is not None:
            _end(client)

    def workers(self) -> dict[str, dict[str, Any]]:
        """Address -> ``name``, ``nthreads``, ``resources`` … of every worker now."""
        client = self.client()
        with self.seam():
            found = client.sync(
                client.scheduler.identity, n_workers=-1, callback_timeout=self.timeout_s
            )
        return dict(found["workers"])

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        workers: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Run a function on workers, beside their tasks.

        Returns:
            Address -> what it returned, or the exception that it raised.
        """
        if workers == []:
            return {}
        client = self.client()
        with self.seam():
            return dict(
                client.run(
                    function,
                    *args,
                    workers=workers,
                    on_error="return",
                    callback_timeout=timeout_s or self.timeout_s,
                )
            )

    def versions(self, packages: list[str]) -> dict[str, dict[str, Any]]:
        """Worker -> package -> its version there, also where drillyard is not installed."""
        client = self.client()
        with self.seam():
            found = client.sync(
                client._get_versions, packages=packages, callback_timeout=self.timeout_s
            )
        return {a: (w or {}).get("packages", {}) for a, w in found["workers"].items()}

    @contextlib.contextmanager
    def seam(self) -> Iterator[None]:
        """Dask's errors within become ours."""
        try:
            yield
        except DrillyardError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if "SSL" in words or "certificate" in words.lower():
                raise UserError(
                    f"the scheduler at {self.address} and we do not accept each other: {words}",
                    hint="look at tls_ca_file, tls_cert and tls_key of backends.dask",
                ) from error
            raise InfrastructureError(
                f"the scheduler at {self.address} does not answer: {words}",
                hint="see whether it runs; what the workers do goes on meanwhile",
            ) from error


def _end(client: Client) -> None:
    """Close without waiting for a scheduler that may be dead."""
    with contextlib.suppress(Exception):
        client.close(timeout=1.0)
