"""Operations: the answer of a mutating call, and how to wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from drillyard_emulators.http.clock import EmulatedClock, compute_stamp
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal

_LONGEST_WAIT_S = 100.0


@dataclass(slots=True)
class Operation:
    """One operation.

    Attributes:
        where: ``global``, ``regions/R`` or ``zones/Z``.
        finished: Whether it is finished; None if only time must pass.
    """

    number: int
    where: str
    kind: str
    target: str
    user: str
    created: float
    due: float
    errors: list[Document] = field(default_factory=list)
    finished: Callable[[], bool] | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """As Google names them."""
        return f"operation-{self.number}"


class Operations:
    """All operations.

    Args:
        clock: Emulated time.
        api: Link to the project.
        lock: Lock of the emulated cloud.
    """

    def __init__(self, clock: EmulatedClock, api: str, lock: threading.RLock) -> None:
        self._clock, self._api = clock, api
        self.changed = threading.Condition(lock)
        self._found: dict[str, Operation] = {}
        self._requests: dict[tuple[str, str], Operation] = {}
        self._of: dict[str, list[Operation]] = {}
        """Operations that may not have ended, by resource."""
        self._next = 1_700_000_000_000

    def replay(self, method: str, request_id: str | None) -> Operation | None:
        """The operation that this very request began before, if any."""
        return self._requests.get((method, request_id)) if request_id else None

    def begin(
        self,
        method: str,
        where: str,
        kind: str,
        target: str,
        user: str | None,
        takes_s: float,
        request_id: str | None = None,
        finished: Callable[[], bool] | None = None,
        errors: list[Document] | None = None,
    ) -> Operation:
        """Begins an operation; under the cloud's lock."""
        now = self._clock.now()
        self._next += 1
        operation = Operation(
            self._next, where, kind, target, user or "", now, now + takes_s, errors or [], finished
        )
        self._found[operation.name] = operation
        unended = [other for other in self._of.get(target, []) if other.ended is None]
        self._of[target] = [*unended, operation]
        if request_id:
            self._requests[(method, request_id)] = operation
        return operation

    def changing(self, target: str) -> Operation | None:
        """The newest operation on a resource that has not ended."""
        for operation in reversed(self._of.get(target, [])):
            if not self.done(operation):
                return operation
        return None

    def get(self, where: str, name: str) -> Operation:
        """An operation.

        Raises:
            Refusal: 404.
        """
        operation = self._found.get(name)
        if operation is None or operation.where != where:
            text = f"The resource '{where}/operations/{name}' was not found"
            raise Refusal(404, "notFound", text)
        return operation

    def list(self, where: str) -> list[Operation]:
        """Operations of a place."""
        return [operation for operation in self._found.values() if operation.where == where]

    def wait(self, operation: Operation) -> None:
        """Wait on the server's side: until it is done, or for two minutes at most."""
        deadline = self._clock.now() + _LONGEST_WAIT_S
        with self.changed:
            while not self.done(operation) and self._clock.now() < deadline:
                left = max(0.001, self._clock.real_s(operation.due - self._clock.now()))
                self.changed.wait(min(0.5, left) if operation.finished is None else 0.05)
                if self._clock.speed == 0:
                    # Time stands still: the answer is what is true now.
                    return

    def done(self, operation: Operation) -> bool:
        """Whether it has ended."""
        if operation.ended is None:
            due = self._clock.now() >= operation.due
            if due and (operation.finished is None or operation.finished()):
                operation.ended = self._clock.now()
        return operation.ended is not None

    def document(self, operation: Operation) -> Document:
        """The operation resource."""
        done = self.done(operation)
        link = f"{self._api}/{operation.where}/operations/{operation.name}"
        document: Document = {
            "kind": "compute#operation",
            "id": str(operation.number),
            "name": operation.name,
            "operationType": operation.kind,
            "targetLink": f"{self._api}/{operation.target}",
            "status": "DONE" if done else "RUNNING",
            "user": operation.user,
            "progress": 100 if done else 0,
            "insertTime": compute_stamp(operation.created),
            "startTime": compute_stamp(operation.created),
            "selfLink": link,
        }
        kind, _, name = operation.where.partition("/")
        if name:
            document[kind[:-1]] = f"{self._api}/{operation.where}"
        if operation.ended is not None:
            document["endTime"] = compute_stamp(operation.ended)
            if operation.errors:
                document["error"] = {"errors": operation.errors}
                document["httpErrorStatusCode"] = 400
                document["httpErrorMessage"] = "BAD REQUEST"
        return document
