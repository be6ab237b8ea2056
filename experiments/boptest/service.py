"""Stands in for the web service of BOPTEST; it was not compared with the real one.

Written from the README and service/web/server/docs/openapi.yaml of
https://github.com/ibpsa/project1-boptest. One test case: a room with a heat pump, with the names,
units and ranges of bestest_hydronic_heat_pump, but a much simpler building.

    python experiments/boptest/service.py 8000
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CASE, DAY_S = "bestest_hydronic_heat_pump", 86_400.0
INPUTS: dict[str, dict[str, Any]] = {
    "oveHeaPumY_u": {"Unit": "1", "Minimum": 0, "Maximum": 1, "Description": "Heat pump"},
    "oveHeaPumY_activate": {"Unit": None, "Minimum": None, "Maximum": None, "Description": ""},
}
MEASUREMENTS: dict[str, dict[str, Any]] = {
    name: {"Unit": unit, "Minimum": None, "Maximum": None, "Description": text}
    for name, unit, text in (
        ("reaTZon_y", "K", "Zone operative temperature"),
        ("reaPHeaPum_y", "W", "Heat pump electrical power"),
        ("weaSta_reaWeaTDryBul_y", "K", "Outside dry bulb temperature"),
    )
}
PERIODS = {"peak_heat_day": 16.0, "typical_heat_day": 108.0}
"""Day in the middle of the 14 days of each scenario."""


class Test:
    """A test case that was selected."""

    def __init__(self) -> None:
        self.step, self.queued = 3600.0, 1
        self.initialize({"start_time": 0, "warmup_period": 0})

    def initialize(self, given: dict[str, Any]) -> dict[str, float]:
        """Begins at a time, after a warm-up with the heat pump of the building."""
        start, warm_up = float(given["start_time"]), float(given["warmup_period"])
        self.time, self.room, self.power, self.until = max(start - warm_up, 0.0), 293.15, 0.0, 1e99
        self.kpis = {"ener_tot": 0.0, "cost_tot": 0.0, "tdis_tot": 0.0, "pgas_tot": None}
        while self.time < start:
            self.simulate({}, min(self.step, start - self.time))
        self.kpis |= {"ener_tot": 0.0, "cost_tot": 0.0, "tdis_tot": 0.0}
        return self.measured()

    def scenario(self, given: dict[str, Any]) -> dict[str, Any]:
        """Sets the price, or begins one of the periods."""
        period = given.get("time_period")
        if period is not None and period not in PERIODS:
            raise ValueError(f"Invalid value {period} for parameter time_period.")
        if period is not None:
            begin = (PERIODS[period] - 7) * DAY_S
            given = {**given, "time_period": self.initialize(
                {"start_time": begin, "warmup_period": 7 * DAY_S})}  # fmt: skip
            self.until = begin + 14 * DAY_S
        return given

    def advance(self, given: dict[str, Any]) -> dict[str, float]:
        """One step; without an input, the building's own controller acts."""
        for name in given:
            if name not in INPUTS:
                raise ValueError(f"Unexpected input variable: {name}.")
        if self.time >= self.until:
            return {}
        self.simulate(given, self.step)
        return self.measured()

    def simulate(self, given: dict[str, Any], seconds: float) -> None:
        """A room of one capacity; the heat pump gives three times its power."""
        own = min(max((294.15 - self.room) * 0.5, 0.0), 1.0)
        share = float(given["oveHeaPumY_u"]) if given.get("oveHeaPumY_activate") else own
        self.power = 5000.0 * min(max(share, 0.0), 1.0)
        for _ in range(round(seconds / 60)):
            loss = 250.0 * (self.room - self.outdoor())
            self.room += 60.0 * (3 * self.power - loss) / 2.0e7
            self.time += 60.0
        self.kpis["ener_tot"] += self.power * seconds / 3.6e6 / 192
        self.kpis["cost_tot"] += self.power * seconds / 3.6e6 / 192 * 0.25
        self.kpis["tdis_tot"] += max(294.15 - self.room, 0.0) * seconds / 3600

    def outdoor(self) -> float:
        """A year, and a day in it."""
        year = -10.0 * math.cos(2 * math.pi * self.time / (365 * DAY_S))
        return 283.15 + year - 4.0 * math.cos(2 * math.pi * self.time / DAY_S)

    def measured(self) -> dict[str, float]:
        """All points, and the time."""
        values = (self.room, self.power, self.outdoor())
        return {"time": self.time, **dict(zip(MEASUREMENTS, values, strict=True))}


class Service(BaseHTTPRequestHandler):
    """The requests of the README that a controller needs."""

    protocol_version = "HTTP/1.1"
    tests: dict[str, Test] = {}  # noqa: RUF012

    def answer(self) -> None:
        """One request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        what, _, key = self.path.strip("/").partition("/")
        if self.path == "/testcases":
            return self.send(200, [{"testcaseid": CASE}])
        if what == "testcases":
            if key != f"{CASE}/select":
                return self.send(404, {"errors": [{"msg": "Invalid testcase name"}]})
            name = str(uuid.uuid4())
            self.tests[name] = Test()
            return self.send(200, {"testid": name})
        test = self.tests.get(key)
        if test is None:
            return self.send(404, {"errors": [{"msg": "Invalid testid"}]})
        if what in ("status", "stop"):
            test.queued -= 1
            if what == "stop":
                del self.tests[key]
            return self.send(
                200, "OK" if what == "stop" else ("Running", "Queued")[test.queued >= 0]
            )
        try:
            payload = self.payload(what, test, body)
        except (ValueError, KeyError) as error:
            return self.send(400, {"status": 400, "message": str(error), "payload": None})
        self.send(200, {"status": 200, "message": "", "payload": payload})

    def payload(self, what: str, test: Test, body: dict[str, Any]) -> Any:
        """What a request about a running test returns."""
        if what == "step" and self.command == "PUT":
            test.step = float(body["step"])
        if what in ("initialize", "advance", "scenario"):
            return getattr(test, what)(body)
        return {"inputs": INPUTS, "measurements": MEASUREMENTS, "kpi": test.kpis,
                "step": test.step}[what]  # fmt: skip

    def send(self, status: int, value: Any) -> None:
        """A status with a word, or with an object."""
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def serving(port: int) -> ThreadingHTTPServer:
    """A service that answers in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Service)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
