"""Bad luck that depends on what the machines do: "preempt it after its second checkpoint"."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from drillyard_emulators.http.fields import Document


class Trigger(BaseModel):
    """When a machine has written so many objects of a kind, something happens to it.

    Attributes:
        objects: Regular expression over ``bucket/name``.
        count: On which of them.
        what: ``preempt`` (with notice), ``cut`` (preempted without), ``crash`` or ``hang``.
        machine: Only machines whose name matches; the objects of each are counted apart.
        times: How many machines it hits in all.
    """

    model_config = ConfigDict(extra="forbid")

    objects: str
    count: int = 1
    what: str = "preempt"
    machine: str = ""
    times: int = 1
    played: int = 0


class Triggers:
    """The triggers that are set.

    Args:
        happen: Lets something (first) happen to a machine (second).
    """

    def __init__(self, happen: Callable[[str, str], None]) -> None:
        self._happen = happen
        self._set: list[tuple[Trigger, dict[str, int]]] = []
        self._lock = threading.Lock()

    def add(self, trigger: Trigger) -> None:
        """Set a trigger."""
        with self._lock:
            self._set.append((trigger, {}))

    def all(self) -> list[Document]:
        """The triggers, with how often each was played."""
        with self._lock:
            return [trigger.model_dump() for trigger, _ in self._set]

    def on_object(self, machine: str | None, name: str) -> None:
        """A machine wrote an object.

        Args:
            machine: Its name; None: it was no machine.
            name: ``bucket/name``.
        """
        if machine is None:
            return
        with self._lock:
            for trigger, counts in self._set:
                if trigger.played >= trigger.times or not re.search(trigger.machine, machine):
                    continue
                if not re.search(trigger.objects, name):
                    continue
                counts[machine] = counts.get(machine, 0) + 1
                if counts[machine] == trigger.count:
                    trigger.played += 1
                    self._happen(trigger.what, machine)
