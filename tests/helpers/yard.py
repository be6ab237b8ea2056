"""A team's servers by ``drillyard up``, with everything deployed and a receiver of alerts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from drillyard_emulators.http.proxy import Proxy
from drillyard_emulators.http.tls import Authority
from drillyard_emulators.http.wire import Request, Response
from drillyard_flows.deploying.alerts import SLACK
from drillyard_flows.local_stack.stack import LocalStack
from tests.flows.conftest import DRILLYARD, Api, Bench, lease_processes
from tests.helpers.patience import until
from tests.helpers.processes import free_ports, run_process
from tests.helpers.smtp import Mailbox, mail_server
from tests.helpers.webhook import Webhook, webhook

BIN = Path(sys.executable).parent
LOOK_EVERY_S = 0.5
"""At what costs the servers, or this machine, something: more often is a load by itself."""


@dataclass
class Yard:
    """What a person has after ``up``, ``source env.sh`` and ``deploy``.

    Args:
        bench: A folder for experiments; their store is the worker's.
        stack: Where the servers' data is.
        environ: What ``env.sh`` exports.
        api: Prefect's.
        hook: Where alerts arrive.
        slack: What ``hooks.slack.com`` was sent: path and body.
        mail: What the mail server was sent.
        relay: Where alerts go that are to be mailed.
        through: Environment of the servers: how they get to Slack.
    """

    bench: Bench
    stack: LocalStack
    environ: dict[str, str]
    api: Api
    hook: Webhook
    slack: list[dict[str, Any]]
    mail: Mailbox
    relay: str
    through: dict[str, str]

    @property
    def ui(self) -> str:
        return self.api.url.removesuffix("/api")

    def drillyard(self, *words: str | Path, code: int = 0) -> str:
        """A command in the shell of that person; what it printed."""
        return self._run(DRILLYARD, *words, code=code)

    def prefect(self, *words: str) -> str:
        """A command of Prefect's own."""
        return self._run(str(BIN / "prefect"), *words)

    def _run(self, *words: str | Path, code: int = 0) -> str:
        done = run_process(list(map(str, words)), cwd=self.bench.folder, more=self.environ)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def up(self) -> None:
        """Start again what died."""
        environ = up(self.bench, self.stack.folder, **self.through)
        assert environ.pop("DRILLYARD_ALERTS") == self.relay and environ == self.environ

    def deployment(self, flow: str) -> str:
        """Id of the deployment of a flow."""
        found = self.api.post("/deployments/filter", {})
        return str(next(d["id"] for d in found if d["entrypoint"].endswith(f":{flow}")))

    def start(self, file: str | Path, flow: str = "experiment", **given: Any) -> str:
        """A flow run asked for as the form does; its id."""
        body = {"parameters": {"file": str(file), **given}}
        where = f"/deployments/{self.deployment(flow)}/create_flow_run"
        return str(self.api.post(where, body)["id"])

    def flow_run(self, run: str) -> dict[str, Any]:
        (found,) = self.api.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return dict(found)

    def ended(self, run: str) -> dict[str, Any]:
        """A flow run, once Prefect says that it has ended."""
        found = until(lambda: self.api.ended(run), what=f"the end of {run}", every_s=LOOK_EVERY_S)
        return dict(found)

    def process(self, run: str) -> psutil.Process:
        """The process that runs a flow run."""

        def found() -> psutil.Process | None:
            for process in psutil.process_iter():
                try:
                    words = process.cmdline()
                    if (
                        any(w in ("prefect.engine", "prefect.flow_engine") for w in words)
                        and process.environ().get("PREFECT__FLOW_RUN_ID") == run
                    ):
                        return process
                except psutil.Error:
                    continue
            return None

        process = until(found, what="the process of the flow run", every_s=LOOK_EVERY_S)
        assert process is not None
        return process

    def alert(self, pattern: str, since: int = 0) -> dict[str, Any]:
        """The first alert whose subject or text has a pattern."""

        def found() -> dict[str, Any] | None:
            for told in self.hook.told[since:]:
                if re.search(pattern, f"{told['subject']}\n{told['text']}"):
                    return told
            return None

        told = until(found, what=f"an alert like {pattern}: {self.hook.told}")
        assert told is not None
        return told

    def delay_s(self, told: dict[str, Any], event: str) -> float:
        """Seconds from an event, as Prefect's server dates it, to the alert about it; printed."""
        body = {"filter": {"event": {"name": [event]}, "order": "DESC"}, "limit": 1}
        # The server tells first, and writes the event into its database when it comes to it.
        (found,) = until(
            lambda: self.api.post("/events/filter", body)["events"],
            what=event,
            every_s=LOOK_EVERY_S,
        )
        at = self.hook.told_at[self.hook.told.index(told)]
        late = at - datetime.fromisoformat(found["occurred"]).timestamp()
        print(f"{told['subject']}: told {late:.1f} s after {event}")
        return late

    def nothing_left(self, experiment: str) -> None:
        """Every lease of an experiment is known to be gone, and no process of one lives."""
        leases = until(lambda: self.bench.leases(experiment), what="a lease")
        until(lambda: all(self.bench.leases(experiment).values()), what="confirmed teardown")
        self._no_process(leases)

    def drained(self, experiment: str) -> None:
        """No process of a lease lives, though nobody tore it down; the reaper writes it down."""
        self._no_process(until(lambda: self.bench.leases(experiment), what="a lease"))
        self.drillyard("reap", "--grace", "0s")
        assert all(self.bench.leases(experiment).values())

    def _no_process(self, leases: Iterable[str]) -> None:
        for lease in leases:
            until(
                lambda lease=lease: not lease_processes(lease),
                what="no process of the lease",
                every_s=LOOK_EVERY_S,
            )


def exports(path: Path) -> dict[str, str]:
    """What a shell has after ``source env.sh``."""
    shown = run_process(["sh", "-c", f". '{path}'; env -0"], env={}, check=True).stdout
    found = dict(line.partition("=")[::2] for line in shown.split("\0") if line)
    return {name: value for name, value in found.items() if name not in ("PWD", "SHLVL", "_")}


def up(bench: Bench, folder: Path, *words: str, **environ: str) -> dict[str, str]:
    """``drillyard up``; what a shell has afterwards."""
    known = LocalStack.at(folder).read().get("ports")
    ports = []
    if known is None:
        names = ("prefect", "mlflow", "relay")
        free = zip(names, free_ports(len(names)), strict=True)
        ports = [word for name, port in free for word in (f"--{name}-port", str(port))]
    command = bench.command("up", "--folder", folder, *ports, *words)
    done = run_process(command, cwd=bench.folder, more=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return exports(folder / "env.sh")


def down(bench: Bench, folder: Path) -> str:
    """``drillyard down``."""
    done = run_process([DRILLYARD, "down", "--folder", str(folder)])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def slack(folder: Path) -> Iterator[tuple[list[dict[str, Any]], dict[str, str]]]:
    """A ``hooks.slack.com`` on this machine; what it was sent, and how a server gets to it."""
    told: list[dict[str, Any]] = []

    def take(request: Request) -> Response:
        told.append({"path": request.path, "body": json.loads(request.body)})
        return Response(200, b"ok")

    authority = Authority()
    proxy = Proxy(authority.server([SLACK]), {SLACK: take})
    bundle = authority.write_bundle(folder / "authorities.pem")
    try:
        yield told, {"HTTPS_PROXY": proxy.url, "REQUESTS_CA_BUNDLE": str(bundle)}
    finally:
        proxy.close()


@contextmanager
def yard(folder: Path, *words: str, **environ: str) -> Iterator[Yard]:
    """Servers of their own, stopped at the end.

    Args:
        folder: Of experiments, results and the servers' data.
        *words: Options of ``up``.
        **environ: Of the servers.
    """
    home = folder / "up"
    # Apart: a folder of experiments is their code, and the servers' files change with each start.
    bench = Bench(folder / "experiments")
    bench.folder.mkdir(parents=True, exist_ok=True)
    with webhook() as hook, slack(folder) as (told, way), mail_server() as box:
        through = {**way, **environ}
        try:
            shell = up(bench, home, "--mail", box.url, *words, **through)
            # The webhook is told where a test says no other.
            relay = shell.pop("DRILLYARD_ALERTS")
            api = Api(shell["PREFECT_API_URL"], shell["PREFECT_API_AUTH_STRING"])
            made = Yard(bench, LocalStack.at(home), shell, api, hook, told, box, relay, through)
            made.drillyard("deploy", "--alerts", hook.url)
            yield made
        finally:
            down(bench, home)
            for experiment in bench.store.glob("*/experiment.json"):
                bench.give_back(experiment.parent.name)
