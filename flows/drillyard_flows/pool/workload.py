"""On the machine: the flow of a flow run as the work of an experiment.

The flow run's process talks to Prefect itself, so neither laptop nor worker is needed once it
runs. Here is only what it cannot report: that it was killed, or ended by a limit.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys

from drillyard.errors import DrillyardError, RunFailed
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Manifest, Record
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.spec.work import ScriptSpec
from drillyard.system.redaction import register_environment
from drillyard.workloads.measured import Measured, announce, save_metrics
from drillyard.workloads.script import commands_of, prepare
from drillyard_flows.pool.flow_run_api import FlowRunApi

PATH = "control/flow-run.json"
UNDECIDED = ("PENDING", "RUNNING", "CANCELLING")
_MISSING = re.compile(r"ModuleNotFoundError.{2,3}No module named '(?P<name>[^']+)'")


class FlowRunOrder(Record):
    """``control/flow-run.json``: what the machine executes; deleted at the end, as it has secrets.

    Attributes:
        flow_run: Id of the flow run.
        entrypoint: Its flow in the files that travelled; empty: its deployment pulls the code.
        command: Replaces the command that executes it.
        environment: Variables of its process, with the API and its credentials.
    """

    flow_run: str
    entrypoint: str = ""
    command: str = ""
    environment: dict[str, str]

    @property
    def line(self) -> list[str]:
        """The command that executes the flow run."""
        if self.command:
            return shlex.split(self.command)
        if self.entrypoint:
            return [sys.executable, "-m", "drillyard_flows.pool.execute", self.entrypoint]
        return [sys.executable, "-m", "prefect", "flow-run", "execute"]


class FlowRun(Measured):
    """Executes a flow run of Prefect."""

    kind = "flow-run"
    attempts = 1
    """A flow that has begun does not begin again by itself: Prefect's retries decide."""

    def check(self, spec: ExperimentSpec, folder: object) -> list[Finding]:
        """See ``Workload.check``: ``request.py`` has checked it."""
        del spec, folder
        return []

    def train(self, context: RunContext) -> PhaseOutcome:
        """Execute the flow run; its own failure is a result like any other.

        Raises:
            RunFailed: Its process did not end by itself.
            Stopped: A limit, or a cancellation before it began.
        """
        announce(context)
        order = context.mailbox.read(PATH, FlowRunOrder)
        if order is None:
            raise RunFailed("the order of this flow run was deleted, so it was settled before")
        register_environment(order.environment)  # a flow may print it
        section = ScriptSpec(run=[order.line])
        facts = {**order.environment, "PREFECT__FLOW_RUN_ID": order.flow_run}
        prepare(context)
        commands = commands_of(context, section, "parameters.json", **facts)
        api = FlowRunApi.of(facts)
        why = "the process of the flow ended without a state"
        try:
            commands.run("run", section.run, None)
        except DrillyardError as error:
            why = str(error)
            raise
        finally:
            with contextlib.suppress(DrillyardError):  # the pool's worker does it later
                name = context.run.experiment
                report(api, order.flow_run, name, why, commands.last_words())
            commands.end_all()
        files = save_metrics(context, {"executed": 1.0}, {})
        return PhaseOutcome(files=Manifest(files=files), summary={})


def report(
    api: FlowRunApi, flow_run: str, experiment: str, why: str, last_words: str = ""
) -> None:
    """Sets a state where Prefect's own process could not, or names the package that it lacked.

    Args:
        api: The API, as this machine sees it.
        flow_run: Id of the flow run.
        experiment: Who reports: nothing is set if the flow run was retried and has another one.
        why: Message of a flow run that has no end.
        last_words: The last output of its process.

    Raises:
        ControlPlaneError: The API does not answer.
    """
    state = api.state(flow_run, experiment)
    missing = _MISSING.search(last_words)
    if missing is not None and state in (*UNDECIDED, "CRASHED"):
        name = missing["name"].partition(".")[0]
        why = f"the machine has no package {name!r}: add it to `requirements` of the pool or "
        api.set_state(flow_run, "CRASHED", f"{why}of the deployment's job variables")
    elif state in UNDECIDED:
        api.set_state(flow_run, "CANCELLED" if state == "CANCELLING" else "CRASHED", why)


def report_reaped(store: str, experiment: str) -> None:
    """Sets the state of a flow run whose machine was ended by the reaper; else does nothing.

    Args:
        store: URL of the store.
        experiment: What the machine was rented for.
    """
    with contextlib.suppress(DrillyardError):  # else the next look of a worker
        order = Mailbox(open_store(store), experiment).read(PATH, FlowRunOrder)
        if order is not None:
            api = FlowRunApi.of(order.environment)
            report(api, order.flow_run, experiment, "the reaper ended its machine")
