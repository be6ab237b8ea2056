"""The process of an isolated FMU: steps it for the process that started this one."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from drillyard.errors import DrillyardError
from drillyard.simulators.fmu.fmu import Fmu
from drillyard.simulators.fmu.instance import CannotStart
from drillyard.simulators.fmu.isolated import JOB
from drillyard.simulators.fmu.plant import Plant


def main() -> None:
    """Answers until the connection ends."""
    job = json.loads(os.environ[JOB])
    sys.path[:] = job["path"]
    tempfile.tempdir = os.environ["DRILLYARD_FOLDER"]  # it is deleted with this process
    make = _told(lambda: Plant(Fmu(**job["args"]).setting, job["reads"], job["acts"], ""))
    plant = make()
    address = ("127.0.0.1", int(os.environ["DRILLYARD_PORT"]))
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = connection.makefile("rb")
        connection.sendall(_line({"token": os.environ["DRILLYARD_TOKEN"]}))
        for line in lines:
            message = json.loads(line)
            if isinstance(plant, Plant):
                answer = _told(_answer)(plant, message)
            else:  # it could not be made
                answer = plant if message["type"] != "Idle" else {}
            connection.sendall(_line(answer))
    if isinstance(plant, Plant):
        plant.close()


def _answer(plant: Plant, message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] == "Idle":
        return {}
    if message["type"] == "EpisodeStart":
        return {"states": plant.reset(message["config"])}
    states = plant.step(message["actions"])
    ends = {"terminated": plant.terminated(), "truncated": plant.truncated()}
    return {"states": states, **ends, "failed": int(plant.truncated())}


def _told(call: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that drillyard raises on purpose, as an answer."""

    def told(*args: Any) -> Any:
        try:
            return call(*args)
        except CannotStart as error:
            return {"unstarted": [error.message, error.hint]}
        except DrillyardError as error:
            return {"error": f"{error}" + (f"; {error.hint}" if error.hint else "")}

    return told


def _line(answer: object) -> bytes:
    return (json.dumps(answer) + "\n").encode()


main()
