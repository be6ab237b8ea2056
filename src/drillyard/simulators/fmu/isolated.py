"""FMUs in a separate process, for models that crash, hang, leak or allow one instance.

The process speaks the protocol of ``external_process``; what is lost with it is counted there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.simulators.external import External
from drillyard.simulators.external_process import Answer, ConnectionLost
from drillyard.simulators.fmu.instance import CannotStart
from drillyard.simulators.types import Options, States
from drillyard.system.watchdog import keep_alive

PAUSE_S = 2.0
"""Before a model that has worked is started again, as where all licences are in use; each pause
is twice as long as the one before."""
JOB = "DRILLYARD_FMU"
"""Variable of the process: the arguments of ``Fmu``, what is read, the actions, and the path."""


class IsolatedPlant(External):
    """One or several FMUs in a process of this copy.

    Args:
        arguments: Those of ``Fmu``.
        reads: Names of the states.
        acts: Names of the actions.
        name: For messages.
        step_seconds: Time between two actions.
    """

    field = "simulator.id"
    hint = "the model ends its process when it is loaded: is it complete, and for this system?"

    def __init__(
        self,
        arguments: JsonObject,
        reads: Sequence[str],
        acts: Sequence[str],
        name: str,
        step_seconds: float,
    ) -> None:
        given = {k: arguments[k] for k in ("step_timeout_s", "restarts_per_hour")}
        job = {"args": arguments, "reads": reads, "acts": acts, "path": sys.path}
        super().__init__(
            [sys.executable, "-m", "drillyard.simulators.fmu"],
            environment={JOB: json.dumps(job)},
            **given,  # type: ignore[arg-type]
        )
        self.simulator_name, self.step_seconds = name, step_seconds
        self._after, self._episodes = arguments.get("restart_after"), 0

    def reset(self, config: Options, rng: np.random.Generator) -> States:
        """Begins an episode, in a new process where the last one had enough of them."""
        replaced = isinstance(self._after, int) and self._episodes >= self._after
        if replaced:
            self.close()
            self._connected, self._episodes = False, 0
        self._episodes += 1
        states = super().reset(config, rng)
        self._in_episode += replaced
        return states

    @property
    def lost(self) -> bool:
        """Whether a process of it was lost."""
        return bool(self._restarts)

    def _taken(self, answer: Answer) -> States:
        if "unstarted" in answer:
            message, hint = answer["unstarted"]
            if not self._states:  # it has never worked
                raise CannotStart(message, hint=hint)
            with keep_alive(f"waiting for {self.simulator_name}"):
                time.sleep(PAUSE_S * 2 ** len(self._restarts))
            raise ConnectionLost(f"{message}; {hint}")
        states = super()._taken(answer)
        self._in_episode += int(answer.get("failed", 0))
        return states
