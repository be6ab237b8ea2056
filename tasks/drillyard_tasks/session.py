"""What the six tasks get: an experiment at work, with a body for each of its phases."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

from pydantic_core import SchemaSerializer, core_schema

from drillyard.driver.bodies import Body
from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import Phase
from drillyard_tasks.publisher import SHORT_S, Publisher


class Session:
    """An experiment at work. ``drillyard_flows.session`` opens one for a flow of your own.

    Args:
        driver: Open, with tickets to do.
    """

    # A task of your own may take the session: Prefect hashes the JSON form of what a task gets.
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda session: {"experiment": session.name, "store": session.store}
            )
        )
    )

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        # Only a study has so many trainings that the artifacts of short ones would cost time.
        self.publisher = Publisher(short_s=0.0 if driver.study is None else SHORT_S)
        self._bodies: dict[str, Body] = {}

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.driver.mailbox.experiment

    @property
    def store(self) -> str:
        """URL of the store, for ``drillyard.results_of``."""
        return self.driver.mailbox.store.url

    @cached_property
    def identity(self) -> str:
        """Identifies the experiment in Prefect's cache; another one of its name has another."""
        record = self.driver.mailbox.experiment_record()
        text = f"{self.store}\n{record.name}\n{record.identity}\n{record.created_at}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def finished(self) -> bool:
        """Whether there was nothing to do, so that no machine is rented."""
        return False

    def body(self, phase: str, run: str = "") -> Body:
        """Returns a phase that a task waits for.

        Args:
            phase: One of the six phases.
            run: The run, for `train`, `evaluate` and `store`.

        Raises:
            DrillyardError: This phase cannot begin, or the session has ended.
        """
        return self._bodies[self.key(phase, run)]

    def title(self, phase: str, run: str = "") -> str:
        """Returns the name of a phase's task run.

        Args:
            phase: One of the six phases.
            run: The run, for `train`, `evaluate` and `store`.
        """
        body = self._bodies.get(self.key(phase, run))
        if body is not None or not run:
            return body.title if body is not None else phase
        with suppress(DrillyardError):  # the task itself says which runs there are
            return f"{phase} {self.driver.mailbox.run(run).name or run}"
        return f"{phase} {run}"

    def delivered(self, phase: str, run: str = "") -> bool:
        """Returns whether a task got the end of a phase, so that repeating it would not help.

        Args:
            phase: One of the six phases.
            run: The run, for `train`, `evaluate` and `store`.
        """
        body = self._bodies.get(self.key(phase, run))
        return body is not None and body.delivered

    @staticmethod
    def key(phase: str, run: str) -> str:
        """Returns the key of a phase's body."""
        return ticket_id(run, Phase(phase)) if run else phase

    def offer(self, body: Body) -> None:
        """Keeps a phase for the task that shows it."""
        self._bodies[body.key] = body

    def forget(self, key: str) -> None:
        """Forgets a phase whose task has ended: a study has thousands."""
        self._bodies.pop(key, None)


def of(parameters: dict[str, Any]) -> tuple[Session, str]:
    """Returns the session and the run ("" without one) from the parameters of a task."""
    return cast(Session, parameters["session"]), str(parameters.get("run", ""))
