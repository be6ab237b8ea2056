"""Calls to a Dask scheduler; translates Dask's errors into drillyard's.

Every call has a time limit: a scheduler or worker that was stopped does not report it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, TypeVar, overload

from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")


class Security(TypedDict, total=False):
    """Arguments of ``distributed.Security`` for TLS."""

    require_encryption: bool
    tls_ca_file: str
    tls_client_cert: str
    tls_client_key: str


class DaskWorker(TypedDict, total=False):
    """What a scheduler knows about one of its workers; ``name`` is a number or a text."""

    name: int | str
    nthreads: int
    resources: dict[str, float]


Workers = Mapping[str, DaskWorker]
"""Workers by their addresses."""

SILENT_S = 30.0
"""Seconds for which a worker that did not answer is not asked again."""
_clients: dict[tuple[str, str], Client] = {}
_silent: dict[tuple[str, str], float] = {}
"""(scheduler, worker) -> until when it is not asked again, by the monotonic clock."""
_lock = threading.Lock()


@dataclass(frozen=True)
class SchedulerAddress:
    """How to reach a scheduler.

    Attributes:
        address: Address of the scheduler.
        security: Arguments of ``distributed.Security``; empty without TLS.
        timeout_s: Time limit of one call, in seconds.
    """

    address: str
    security: Security = field(default_factory=Security)
    timeout_s: float = 10.0

    @property
    def _key(self) -> tuple[str, str]:
        return self.address, str(self.security.get("tls_client_cert", ""))

    def client(self) -> Client:
        """Returns this process's client of the scheduler, connected.

        Raises:
            InfrastructureError: The scheduler does not answer.
            UserError: Dask is not installed, or the TLS handshake fails.
        """
        try:
            import distributed
        except ImportError as error:
            raise UserError(f"Dask is not installed here: {error}", hint=install("dask")) from None
        # We report lost connections ourselves, with their consequences.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        with _lock:
            client = _clients.get(self._key)
            if client is not None and client.status == "running":
                return client
            if client is not None:
                del _clients[self._key]
                _end(client)
            with self.seam():
                client = _clients[self._key] = distributed.Client(
                    self.address,
                    timeout=self.timeout_s,
                    set_as_default=False,
                    security=distributed.Security(**self.security) if self.security else None,
                )
            return client

    def forget(self) -> None:
        """Closes this process's connection, if there is one."""
        with _lock:
            client = _clients.pop(self._key, None)
        if client is not None:
            _end(client)

    def workers(self) -> dict[str, DaskWorker]:
        """Returns every current worker by its address."""
        client = self.client()
        with self.seam():
            identity = client.sync(
                client.scheduler.identity, n_workers=-1, callback_timeout=self.timeout_s
            )
        return dict(identity["workers"])

    @overload
    def run(
        self,
        function: Callable[..., Coroutine[object, object, T]],
        *args: object,
        workers: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, T | BaseException]: ...

    @overload
    def run(
        self,
        function: Callable[..., T],
        *args: object,
        workers: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, T | BaseException]: ...

    def run(
        self,
        function: Callable[..., object],
        *args: object,
        workers: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> Mapping[str, object]:
        """Runs a function on workers, beside their tasks.

        Dask's own call waits for the slowest worker, and one that was stopped is listed for five
        minutes more. So each is asked by itself. One that was silent is asked again only later,
        because the scheduler keeps a connection for each question.

        Args:
            function: The function.
            *args: Its arguments.
            workers: Addresses; all workers by default.
            timeout_s: Time limit of each answer; if given, silent workers are asked too.

        Returns:
            Address -> the function's result, or the exception that it raised; ``TimeoutError``
            for a worker that did not answer.
        """
        workers = list(self.workers()) if workers is None else workers
        if not workers:
            return {}
        client = self.client()
        limit_s = timeout_s or self.timeout_s

        async def ask(worker: str) -> object:
            if timeout_s is None and time.monotonic() < _silent.get((self.address, worker), 0.0):
                return TimeoutError("it did not answer before")
            call = client.run(function, *args, workers=[worker], on_error="return")
            try:
                return (await asyncio.wait_for(call, limit_s))[worker]
            except TimeoutError:
                late.add(worker)
                return TimeoutError(f"no answer within {limit_s:g} s")

        async def ask_all() -> list[object]:
            return await asyncio.gather(*map(ask, workers))

        late: set[str] = set()
        with self.seam():
            # The limits of the workers come first; this one is for a loop that has ended.
            answers = client.sync(ask_all, callback_timeout=limit_s + self.timeout_s)
        if len(late) < len(workers):  # or the scheduler may be the one that is silent
            again = time.monotonic() + SILENT_S
            _silent.update({(self.address, worker): again for worker in late})
        return dict(zip(workers, answers, strict=True))

    def versions(self, packages: list[str]) -> dict[str, dict[str, str | None]]:
        """Returns the versions of packages by worker, also of workers without drillyard."""
        client = self.client()
        with self.seam():
            answer = client.sync(
                client._get_versions, packages=packages, callback_timeout=self.timeout_s
            )
        return {a: (w or {}).get("packages", {}) for a, w in answer["workers"].items()}

    @contextlib.contextmanager
    def seam(self) -> Iterator[None]:
        """Translates Dask's errors in its block."""
        try:
            yield
        except DrillyardError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if "SSL" in reason or "certificate" in reason.lower():
                raise UserError(
                    f"the TLS handshake with the scheduler at {self.address} failed: {reason}",
                    hint="check tls_ca_file, tls_cert and tls_key of backends.dask",
                ) from error
            raise InfrastructureError(
                f"the scheduler at {self.address} does not answer: {reason}",
                hint="check that it runs; the workers continue meanwhile",
            ) from error


def _end(client: Client) -> None:
    """Closes a client without waiting for a scheduler that may be dead."""
    with contextlib.suppress(Exception):
        client.close(timeout=1.0)
