"""The worker type ``drillyard``: Prefect finds it through the entry point ``prefect.collections``.

The contract:

- Nothing is rented for a flow run whose pool has no limits, whose month is spent, whose machines
  could not reach the API, or that drillyard's own checks refuse. It is *Failed*, with the fix.
- A flow run gets its own machines, once, also from two workers of one pool.
- A flow that has begun needs neither this worker nor its machine. Its machine follows a
  cancellation, and removes itself.
- Every flow run ends in a state. One whose machine is lost is *Crashed*: this worker sees it, or
  the next look of any worker of the pool, which also ends what is rented and settles the cost.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.abc
import prefect
from prefect.settings import get_current_settings
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import Field, PrivateAttr

from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard.leases.places import Places
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Cancel
from drillyard.runs.locate import store_url
from drillyard.spec.load import load_resolved
from drillyard_flows.pool.account import Account
from drillyard_flows.pool.flow_run_api import FlowRunApi
from drillyard_flows.pool.request import LIMITS, Code, Request, environment_of
from drillyard_flows.pool.session import BEGUN_S, Session, adopted, begin

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

T = TypeVar("T")
_CLIENT = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")


class DrillyardVariables(BaseVariables):
    """The form of the pool, and what a deployment may set as job variables."""

    backend: str = Field(
        "local",
        description="Where machines are rented: local; or ssh/NAME, gcp/NAME, azure/NAME with the "
        "name of a block.",
    )
    resources: dict[str, Any] = Field(
        default_factory=dict,
        description='What a flow run needs: {"gpu": "L4", "cpus": 8, "memory_gb": 32}.',
    )
    max_hours: float | None = Field(
        None, description="Mandatory: longest life of the machines of a flow run, in hours."
    )
    max_cost: float | None = Field(
        None,
        description="Mandatory: the most that a flow run may cost, in the price list's currency.",
    )
    max_cost_month: float | None = Field(
        None,
        description="Mandatory: the most that all flow runs of the pool may cost in a calendar "
        "month (UTC). Only the pool's own value counts.",
    )
    requirements: list[str] = Field(
        default_factory=list,
        description='Packages that the flow needs: ["pandas==2.3.3"]. They travel through the '
        "store.",
    )
    install_prefect: bool = Field(
        True, description="Send Prefect to the machines. Switch it off if their image has it."
    )
    api_url: str | None = Field(
        None,
        title="API URL",
        description="Address of Prefect's API as the machines see it; default: the worker's own.",
    )
    api_login: str | None = Field(
        None,
        title="API login",
        description="Where the worker finds the API key, or user:password, of the machines: "
        "env:NAME, file:PATH or secret:NAME; default: the worker's own.",
    )
    folder: str | None = Field(
        None,
        description="Folder on the worker's machine that travels with the flow; default: the "
        "deployment's.",
    )
    store: str | None = Field(
        None,
        description="Store of the pool: gs://bucket/prefix, …; default: that of the backend, or "
        "DRILLYARD_STORE of the worker.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Further settings of the backend, over its block's."
    )


class DrillyardConfiguration(BaseJobConfiguration):
    """The job variables of a flow run; ``request.py`` checks them, with messages for people."""

    backend: Any = None
    resources: Any = None
    max_hours: Any = None
    max_cost: Any = None
    max_cost_month: Any = None
    requirements: Any = None
    install_prefect: Any = True
    api_url: Any = None
    api_login: Any = None
    folder: Any = None
    store: Any = None
    settings: Any = None

    _code: Code = PrivateAttr(default=Code(""))
    _pool: dict[str, Any] = PrivateAttr(default_factory=dict)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Keeps the deployment's own words; the worker's settings do not go to machines."""
        own, command = dict(self.env), self.command
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)
        self.env = {k: v for k, v in self.env.items() if k in own or k.startswith("PREFECT__")}
        self.command = command
        self._pool = defaults_of(work_pool)
        if deployment is not None:
            self._code = Code(
                entrypoint=deployment.entrypoint or "",
                path=deployment.path,
                pull_steps=deployment.pull_steps or [],
                stored=deployment.storage_document_id is not None,
            )

    def request(self, flow_run: FlowRun) -> Request:
        """Returns what a flow run asks for.

        Raises:
            ConfigError: The reference in ``api_login`` leads nowhere.
        """
        variables = {name: getattr(self, name) for name in DrillyardVariables.model_fields}
        given = {name: value for name, value in self.env.items() if value is not None}
        return Request(
            flow_run=str(flow_run.id),
            attempt=flow_run.run_count,
            variables=variables,
            pool=self._pool,
            environment=environment_of(variables, given, client_environment()),
            code=self._code,
            prefect=f"prefect=={prefect.__version__}",
        )


class DrillyardResult(BaseWorkerResult):
    """How the work on a flow run ended. Its state is set by then, so the code is always 0."""


class DrillyardWorker(BaseWorker[DrillyardConfiguration, DrillyardVariables, DrillyardResult]):
    """Rents machines for the flow runs of a pool."""

    type = "drillyard"
    job_configuration = DrillyardConfiguration
    job_configuration_variables = DrillyardVariables
    _description = (
        "Rents a machine for each flow run: on Google Cloud, Azure ML, over SSH or here. With "
        "limits of time and money, and no machine that stays."
    )
    _display_name = "drillyard"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._following: set[str] = set()
        """Experiments that a thread of this process drives, or is about to."""
        self._look: threading.Thread | None = None
        self._said = ""

    async def run(
        self,
        flow_run: FlowRun,
        configuration: DrillyardConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> DrillyardResult:
        """Rents for a flow run, and returns once everything is gone and settled."""
        started = task_status or anyio.TASK_STATUS_IGNORED
        log = self.get_flow_run_logger(flow_run)
        pool = defaults_of(self.work_pool)
        with tempfile.TemporaryDirectory(prefix="drillyard-pool-") as scratch:
            api = FlowRunApi.of(client_environment())

            def prepare() -> Session:
                account = account_of(self._work_pool_name, pool, makes_store=True)
                request = configuration.request(flow_run)
                return begin(request, account, api, log.info, Path(scratch))

            try:
                session = await in_thread(prepare)
            except DrillyardError as error:
                text = f"{error}. Fix: {error.hint}" if error.hint else str(error)
                log.error("nothing was rented: %s", text)
                await in_thread(lambda: api.set_state(str(flow_run.id), "FAILED", text))
                started.started("refused")
                return DrillyardResult(identifier="refused", status_code=0)
            place = f"{session.mailbox.store.url}/{session.mailbox.experiment}"
            started.started(place)
            self._following.add(session.mailbox.experiment)
            try:
                await in_thread(session.drive)
            finally:
                self._following.discard(session.mailbox.experiment)
        return DrillyardResult(identifier=place, status_code=0)

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: DrillyardConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Stops a flow run that has not begun; its driver then ends what was rented."""
        store, _, name = infrastructure_pid.rpartition("/")
        # Not ``order_stop``, which needs the record of the experiment: it may be written later.
        order = Cancel(reason="cancelled in Prefect", by=self.name, written_at=time.time())
        await in_thread(
            lambda: Mailbox(open_store(store), name).create("control/cancel.json", order)
        )

    async def sync_with_backend(self) -> None:
        """Sends the heartbeat, and looks for flow runs that no living worker follows."""
        await super().sync_with_backend()
        if self._work_pool is not None and not (self._look and self._look.is_alive()):
            work_pool = self._work_pool
            self._look = threading.Thread(target=self._look_around, args=(work_pool,), daemon=True)
            self._look.start()

    def _look_around(self, work_pool: WorkPool) -> None:
        try:
            account = account_of(work_pool.name, defaults_of(work_pool))
            api = FlowRunApi.of(client_environment())
            entries = [entry for _, entry in account.open()]
            for entry in entries:
                if entry.experiment not in self._following:
                    self._adopt(account, entry, api)
            # One that a worker took, and was killed before it wrote a word.
            for flow_run in api.waiting(work_pool.name, BEGUN_S):
                if flow_run not in {entry.flow_run for entry in entries}:
                    text = "the worker that had taken it was lost before it rented anything"
                    api.set_state(flow_run, "SCHEDULED", text)
        except DrillyardError as error:
            if str(error) != self._said:
                self._said = str(error)
                text = "the flow runs of the pool could not be looked at: %s"
                self._logger.warning(text, error)

    def _adopt(self, account: Account, entry: Any, api: FlowRunApi) -> None:
        self._following.add(entry.experiment)

        def follow() -> None:
            try:
                with tempfile.TemporaryDirectory(prefix="drillyard-pool-") as scratch:
                    log = self._logger.info
                    session = adopted(account, entry, api, log, Path(scratch))
                    if session is not None:
                        self._logger.info("continues %s", entry.experiment)
                        session.drive()
            except DrillyardError as error:
                self._logger.warning("%s: %s", entry.experiment, error)
            finally:
                self._following.discard(entry.experiment)

        threading.Thread(target=follow, daemon=True).start()


def client_environment() -> dict[str, str]:
    """Returns the address and the credentials of this process's own client."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return {name: settings[name] for name in _CLIENT if settings.get(name)}


def defaults_of(work_pool: WorkPool | None) -> dict[str, Any]:
    """Returns the pool's own values of the job variables, without those of deployments."""
    template = work_pool.base_job_template if work_pool is not None else {}
    properties = template.get("variables", {}).get("properties", {})
    names = {*DrillyardVariables.model_fields, *LIMITS}
    return {name: properties.get(name, {}).get("default") for name in names}


def account_of(pool: str, defaults: dict[str, Any], *, makes_store: bool = False) -> Account:
    """Returns the account of a pool, which is where the pool's own values say.

    Args:
        pool: Name of the pool.
        defaults: From ``defaults_of``.
        makes_store: Make the bucket of the pool, if there is none.

    Raises:
        UserError: The pool's backend or store cannot be used.
    """
    backend = str(defaults.get("backend") or "local")
    spec: JsonObject = {"schema": 1, "name": "pool", "workload": "mock", "backend": backend}
    if defaults.get("settings"):
        spec["backends"] = {backend.partition("/")[0]: defaults["settings"]}
    loaded = load_resolved(spec, folder=Path(), command=[])
    url = store_url(defaults.get("store") or None, loaded.spec)
    if makes_store:
        Places.of_spec(loaded.spec).prepare_store(url)
    return Account(url, pool)


async def in_thread(work: Callable[[], T]) -> T:
    """Does blocking work in a thread that does not hold up the end of this process."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # no task can cancel it from now on

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, daemon=True).start()
    return await asyncio.wrap_future(future)
