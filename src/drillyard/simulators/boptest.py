"""``simulator: {id: boptest}``: a test case of BOPTEST, over its HTTP interface.

Written from the README and the OpenAPI description of github.com/ibpsa/project1-boptest.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.errors import SimulatorError
from drillyard.simulators.channels import Channel
from drillyard.simulators.external_process import Answer, ConnectionLost
from drillyard.simulators.reached import Points, Reached

START, WARM_UP = "start_time_s", "warmup_period_s"
"""Keys that a lesson may set: when an episode begins, and seconds simulated before it."""
SCENARIO = ("electricity_price", "time_period", "temperature_uncertainty", "solar_uncertainty")
KPIS = ("ener_tot", "cost_tot", "emis_tot", "tdis_tot", "idis_tot", "pele_tot", "pgas_tot",
        "pdih_tot", "time_rat")  # fmt: skip
"""States besides the points: what BOPTEST has computed since the episode began."""
_LOOK_S = 1.0


class Boptest(Reached):
    """A test case of BOPTEST; each copy selects its own.

    Args:
        url: Address of the service: ``http://127.0.0.1``, ``https://api.boptest.net``.
        testcase: Name of the test case: ``bestest_hydronic_heat_pump``.
        names: A name for the experiment -> a point, such as ``reaTZon_y`` or ``oveHeaPumY_u``.
        step_s: Seconds of one step; by default the step of the test case.
        start_time_s: When episodes begin, in seconds since the new year.
        warmup_period_s: Seconds that are simulated before.
        scenario: ``electricity_price``, ``time_period`` and so on; a ``time_period`` replaces
            the start and the warm-up.
        command: Starts a service for each copy, at ``{port}``.
        ends: A condition that ends the episode: ``room > 300``.
        start_timeout_s: Longest time in the queue for a test case, in seconds.
        step_timeout_s: Longest time for an answer, in seconds.
        restarts_per_hour: More lost test cases end the run.

    Raises:
        SimulatorError: An argument that cannot be used.
    """

    settable = (START, WARM_UP, *SCENARIO)
    shared = True

    def __init__(
        self,
        url: str,
        testcase: str,
        names: Mapping[str, str] | None = None,
        step_s: float | None = None,
        start_time_s: float = 0.0,
        warmup_period_s: float = 0.0,
        scenario: Mapping[str, Json] | None = None,
        command: str | Sequence[str] | None = None,
        ends: str | None = None,
        start_timeout_s: float = 600.0,
        step_timeout_s: float = 120.0,
        restarts_per_hour: int = 5,
    ) -> None:
        if urlsplit(url.replace("{port}", "1")).scheme not in ("http", "https"):
            raise SimulatorError(
                "is not an address of the web", field="simulator.args.url", value=url
            )
        begin = {START: start_time_s, WARM_UP: warmup_period_s, **(scenario or {})}
        unknown = next((key for key in scenario or {} if key not in SCENARIO), None)
        if unknown is not None:
            field = "simulator.args.scenario"
            raise SimulatorError("is not known", field=field, value=unknown, known=SCENARIO)

        def make(address: str) -> BoptestSession:
            return BoptestSession(address, testcase, step_s, begin)

        limits = start_timeout_s, step_timeout_s, restarts_per_hour
        super().__init__(url, make, names, ends, command, *limits)
        self.simulator_name = testcase


class BoptestSession:
    """A test that was selected; see ``reached.Session``.

    Args:
        url: Address of the service.
        testcase: Name of the test case.
        step_s: Seconds of one step; None for the test case's own.
        begin: Start, warm-up and scenario of all episodes; a lesson replaces them.
    """

    def __init__(
        self, url: str, testcase: str, step_s: float | None, begin: Mapping[str, Json]
    ) -> None:
        self._url, self._testcase, self._step_s = urlsplit(url), testcase, step_s
        self._begin = dict(begin)
        self._http: http.client.HTTPConnection | None = None
        self._id = ""
        self._reads: dict[str, str] = {}
        self._acts: dict[str, str] = {}
        self._inputs: list[Channel] = []
        self._points: list[Channel] = []
        self._last: dict[str, float] = {}

    def connect(self, timeout_s: float) -> None:
        """Selects the test case, and waits until a worker runs it."""
        deadline = time.monotonic() + timeout_s
        path = f"testcases/{quote(self._testcase)}/select"
        answer = as_object(self._call("POST", path, {}, timeout_s, "testcase"))
        if "testid" not in answer:
            raise ConnectionLost(f"answered the selection with {str(answer)[:200]}")
        self._id = str(answer["testid"])
        while (status := self._call("GET", "status", None, timeout_s)) != "Running":
            if time.monotonic() > deadline:
                raise ConnectionLost(f"did not run within {timeout_s:g} s: it is {status}")
            time.sleep(min(_LOOK_S, timeout_s))
        if self._step_s is not None:
            self._call("PUT", "step", {"step": self._step_s}, timeout_s, "step_s")
        self._inputs = _channels(self._call("GET", "inputs", None, timeout_s))
        self._points = _channels(self._call("GET", "measurements", None, timeout_s))

    def points(self) -> Points:
        """Inputs (``…_u``) and measurements (``…_y``) of the test case, its time, and its KPIs."""
        more = [Channel("time", "s"), *map(Channel, KPIS)]
        inputs = [one for one in self._inputs if not one.name.endswith("_activate")]
        return {"observation": [*self._points, *inputs, *more], "action": inputs}

    def use(self, reads: Mapping[str, str], acts: Mapping[str, str]) -> None:
        """See ``reached.Session``."""
        self._reads, self._acts = dict(reads), dict(acts)

    def ask(self, message: JsonObject, timeout_s: float) -> Answer:
        """Initializes, or advances by one step, and reads."""
        first = message["type"] == "EpisodeStart"
        given = as_object(message["config" if first else "actions"])
        if first:
            states = self._initialized({**self._begin, **given}, timeout_s)
        else:
            body: JsonObject = {}
            activates = {one.name for one in self._inputs}
            for name, value in given.items():
                point = self._acts[name]
                body[point] = value
                activate = f"{point.removesuffix('_u')}_activate"
                if activate in activates:
                    body[activate] = 1
            answer = as_object(self._call("POST", "advance", body, timeout_s, "advance"))
            if not answer:  # the time period of the scenario is over
                return {"states": self._last, "terminated": False, "truncated": True}
            states = self._named(answer, timeout_s)
        self._last = states
        return {"states": states, "terminated": False, "truncated": False}

    def close(self) -> None:
        """Stops the test, so that the service has its worker back."""
        try:
            if self._id:
                self._call("PUT", "stop", None, 5.0)
        except (ConnectionLost, SimulatorError):
            pass  # the service ends an idle test by itself
        self._id = ""
        self._hang_up()

    def _initialized(self, given: JsonObject, timeout_s: float) -> dict[str, float]:
        scenario: JsonObject = {key: given[key] for key in SCENARIO if key in given}
        answer: JsonObject = {}
        if scenario:
            answer = as_object(self._call("PUT", "scenario", scenario, timeout_s, "scenario"))
            answer = as_object(answer.get("time_period"))
        if "time_period" not in scenario:
            times = {"start_time": given[START], "warmup_period": given[WARM_UP]}
            answer = as_object(self._call("PUT", "initialize", times, timeout_s, START))
        return self._named(answer, timeout_s)

    def _named(self, answer: JsonObject, timeout_s: float) -> dict[str, float]:
        values: dict[str, Any] = dict(answer)
        if any(point in KPIS for point in self._reads.values()):
            kpis = as_object(self._call("GET", "kpi", None, timeout_s, "kpi"))
            # One that this building does not have, as without gas, is null.
            values |= {name: 0.0 if kpis.get(name) is None else kpis[name] for name in KPIS}
        return {name: values[own] for name, own in self._reads.items() if own in values}

    def _call(
        self, method: str, what: str, body: JsonObject | None, timeout_s: float, field: str = "url"
    ) -> Json:
        """The payload of an answer.

        Raises:
            ConnectionLost: No answer, or the test case failed.
            SimulatorError: The service refuses the request.
        """
        path = f"{self._url.path.rstrip('/')}/{what}"
        path += "" if "/" in what else f"/{self._id}"
        sent = None if body is None else json.dumps(body)
        try:
            connection = self._connected(timeout_s)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, text = response.status, response.read().decode(errors="replace")
        except TimeoutError as error:
            self._hang_up()
            raise ConnectionLost(f"did not answer {what} within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise ConnectionLost(f"cannot be reached for {what}: {error}") from error
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text.strip()  # `status` and `stop` answer with a word
        if isinstance(answer, dict) and {"status", "payload"} <= answer.keys():
            status, text = int(answer["status"]), str(answer.get("message"))
            answer = answer["payload"]
        if 400 <= status < 500 and not (status == 404 and self._id):
            raise SimulatorError(
                f"the service refuses {what}: {text[:300]}",
                field=f"simulator.args.{field}",
                value=self._testcase if field == "testcase" else sent,
                hint="see the documentation of the test case; GET /testcases lists all names",
            )
        if status != 200:  # a test that the service no longer has is 404
            raise ConnectionLost(f"answered {what} with status {status}: {text[:300]}")
        found: Json = answer
        return found

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._http is None:
            https = self._url.scheme == "https"
            kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
            self._http = kind(self._url.netloc, timeout=timeout_s)
        self._http.timeout = timeout_s
        if self._http.sock is not None:
            self._http.sock.settimeout(timeout_s)
        return self._http

    def _hang_up(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None


def _channels(payload: Json) -> list[Channel]:
    """Points with the unit and range that the service gives; null is none."""
    found = []
    for name, about in as_object(payload).items():
        given = as_object(about)
        low, high = (given.get(key) for key in ("Minimum", "Maximum"))
        found.append(
            Channel(
                name,
                str(given.get("Unit") or ""),
                float(low) if isinstance(low, int | float) else None,
                float(high) if isinstance(high, int | float) else None,
            )
        )
    return found
