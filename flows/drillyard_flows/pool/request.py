"""What a flow run asks for, checked before anything is rented, as an experiment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from drillyard.backend import is_paid
from drillyard.backend.settings.references import reveal
from drillyard.checks.experiment import check
from drillyard.checks.refusal import refuse
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError
from drillyard.runs.locate import store_url
from drillyard.spec.load import Loaded, load_resolved
from drillyard.spec.locating import refuse_all
from drillyard.system.loopback import is_loopback
from drillyard_flows.pool.workload import FlowRunOrder

WHERE = "job variables"
LIMITS = {
    "max_hours": "the longest that the machines of a flow run may live",
    "max_cost": "the most that a flow run may cost",
    "max_cost_month": "the most that all flow runs of the pool may cost in a month",
}
STEP = "prefect.deployments.steps.set_working_directory"
_PREFECT = re.compile(r"prefect\s*(?:\[|[=<>!~;@]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Code:
    """Where a deployment has its flow.

    Attributes:
        entrypoint: ``file.py:flow`` or ``package.module:flow``.
        path: Its folder, or None.
        pull_steps: Prefect's own steps that bring the code.
        stored: A storage block has the code.
    """

    entrypoint: str
    path: str | None = None
    pull_steps: list[JsonObject] = field(default_factory=list)
    stored: bool = False

    @property
    def pulled(self) -> bool:
        """Whether Prefect brings the code to the machine."""
        return self.stored or any(set(step) != {STEP} for step in self.pull_steps)

    def folder(self, chosen: str | None) -> Path | None:
        """Returns the folder that travels; None: the flow is in an installed package.

        Args:
            chosen: The job variable ``folder``.

        Raises:
            ConfigError: It is not on this machine.
        """
        steps = [step[STEP] for step in self.pull_steps if STEP in step]
        last = steps[-1] if steps else None
        directory = last.get("directory") if isinstance(last, dict) else None
        name = chosen or directory or self.path
        if name is None and ".py:" not in self.entrypoint:
            return None
        folder = Path(str(name or ".")).expanduser()
        if not (folder.is_absolute() and folder.is_dir()):
            raise ConfigError(
                "is not a folder of the machine that runs the pool's worker",
                file=WHERE,
                field="folder",
                value=str(folder),
                hint="copy the flow there, name its folder in `folder`, or let the deployment "
                "pull its code from git",
            )
        return folder


@dataclass(frozen=True)
class Request:
    """A flow run, and what its deployment and its pool say of its machines.

    Attributes:
        flow_run: Id of the flow run.
        attempt: At least how often it began before: a retry gets other machines.
        variables: The job variables.
        pool: The pool's own limits, which no deployment can raise.
        environment: Variables of the flow's process, with the API and its credentials.
        code: Where its deployment has the flow.
        prefect: Requirement that brings Prefect to a machine.
    """

    flow_run: str
    attempt: int
    variables: Mapping[str, Json]
    pool: Mapping[str, Json]
    environment: Mapping[str, str]
    code: Code
    prefect: str

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return f"flow-{self.flow_run}" + (f"-{self.attempt}" if self.attempt else "")

    @property
    def most(self) -> float:
        """The most that this flow run can cost."""
        return float(str(self.variables["max_cost"])) if is_paid(self._backend) else 0.0

    @property
    def limit(self) -> float:
        """The most that the pool may spend in a month."""
        return float(str(self.pool["max_cost_month"]))

    @property
    def _backend(self) -> str:
        return str(self.variables.get("backend") or "local")

    def order(self) -> FlowRunOrder:
        """Returns what the machine executes."""
        return FlowRunOrder(
            flow_run=self.flow_run,
            entrypoint="" if self.code.pulled else self.code.entrypoint,
            command=str(self.variables.get("command") or ""),
            environment=dict(self.environment),
        )

    def loaded(self, empty: Path) -> tuple[Loaded, str]:
        """Returns the experiment and the URL of its store; nothing is created.

        Args:
            empty: An empty folder, for a flow whose code does not travel.

        Raises:
            ConfigError: Something is missing or cannot work.
            ConfigErrors: For several reasons.
        """
        refuse_all([*self._limits(), *self._address(), *self._deployment()])
        chosen = self.variables.get("folder")
        travels = None if self.code.pulled else self.code.folder(str(chosen) if chosen else None)
        loaded = load_resolved(self._spec(), folder=travels or empty, command=["prefect", "pool"])
        store = store_url(str(self.variables.get("store") or "") or None, loaded.spec)
        refuse(check(loaded, store=store, offline_ok=True))
        return loaded, store

    def _spec(self) -> JsonObject:
        kind = self._backend.partition("/")[0]
        given, wanted = self.variables, self.variables.get("resources") or {}
        lines: list[Json] = _list(given.get("requirements"))
        sends = given.get("install_prefect") is not False and kind != "local"
        if sends and not any(_PREFECT.match(str(line)) for line in lines):
            lines = [*lines, self.prefect]
        return {
            "schema": 1,
            "name": self.name,
            "workload": "drillyard_flows.pool.workload:FlowRun",
            "backend": self._backend,
            "backends": {kind: given["settings"]} if given.get("settings") else {},
            # What is not a mapping is refused by the experiment, with field and value.
            "resources": {**wanted, "workers": 1} if isinstance(wanted, dict) else wanted,
            "budget": {
                "max_hours": given["max_hours"],
                "max_cost": given["max_cost"],
                "stall_s": None,  # a flow has no steps that could be counted
            },
            "requirements": lines,
            "tracking": {"mlflow": None, "tensorboard": False},
        }

    def _limits(self) -> Iterator[ConfigError]:
        for name, meaning in LIMITS.items():
            of_pool, of_run = self.pool.get(name), self.variables.get(name)
            if not _is_amount(of_pool):
                yield ConfigError(
                    f"the pool has no limit: {meaning}",
                    file="work pool",
                    field=name,
                    value=of_pool,
                    allowed="a number above 0",
                    hint="edit the work pool in Prefect's UI and give it a default",
                )
            elif not _is_amount(of_run) or float(str(of_run)) > float(str(of_pool)):
                yield ConfigError(
                    "a deployment can only lower a limit of its pool",
                    file=WHERE,
                    field=name,
                    value=of_run,
                    allowed=f"a number above 0, at most {of_pool}",
                    hint="lower it, or raise the limit of the pool",
                )

    def _deployment(self) -> Iterator[ConfigError]:
        if not self.code.entrypoint:
            yield ConfigError(
                "the flow run has no deployment that names its flow",
                file="deployment",
                field="entrypoint",
                allowed="file.py:flow or package.module:flow",
                hint="deploy the flow to the pool, and run the deployment",
            )

    def _address(self) -> Iterator[ConfigError]:
        """Refuses an API that only this machine can reach, for machines elsewhere."""
        url = self.environment["PREFECT_API_URL"]
        host = urlsplit(url).hostname
        if self._backend.partition("/")[0] != "local" and (not host or is_loopback(host)):
            yield ConfigError(
                f"machines of {self._backend} cannot reach a server that listens on this machine "
                "alone",
                file="work pool",
                field="api_url",
                value=url,
                allowed="the address of Prefect's API as the machines see it",
                hint="give the server a name that they can reach (behind TLS and a password) and "
                "write it into the pool's `api_url`",
            )


def environment_of(
    variables: Mapping[str, Json], given: Mapping[str, str], client: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables of the flow's process.

    Args:
        variables: The job variables.
        given: Variables of the deployment, and those that Prefect's worker adds.
        client: Address and credentials of the worker's own client.

    Raises:
        ConfigError: The reference in ``api_login`` leads nowhere.
    """
    login = variables.get("api_login")
    if login:
        text = str(reveal(login, "api_login", secret=True))
        name = "PREFECT_API_AUTH_STRING" if ":" in text else "PREFECT_API_KEY"
        client = {"PREFECT_API_URL": client["PREFECT_API_URL"], name: text}
    url = variables.get("api_url")
    return {**client, **({"PREFECT_API_URL": str(url)} if url else {}), **given}


def _is_amount(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
