"""A bundle behind HTTP: named states in their units in, named actions in theirs out.

One process, one bundle. A policy with a memory is served with sessions: each has its own.
"""

from __future__ import annotations

import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictFloat, Tag
from starlette.exceptions import HTTPException as AnyHTTPException

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError
from drillyard.policies import bundles
from drillyard.policies.act import Policy
from drillyard.policies.bundles import Described
from drillyard.policies.http_guard import Guard
from drillyard.simulators.channels import ChannelJson

MAX_BATCH = 4096
MAX_SESSIONS = 1000
MAX_PROBLEMS = 20
"""Problems that are reported for one question."""
_BYTES_A_NUMBER = 40
"""More than JSON needs for a number of 64 bits and what stands around it."""
_LARGEST = float(np.finfo(np.float32).max)
"""The networks compute with 32 bits: a larger number is infinite there."""
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class Problem(TypedDict):
    """What is wrong with one field of a question, in FastAPI's form."""

    type: str
    loc: list[str | int]
    msg: str


class Question(BaseModel):
    """Body of ``POST /act``: one observation, or a batch."""

    model_config = ConfigDict(extra="forbid")

    states: Annotated[
        Annotated[dict[str, StrictFloat], Tag("one")]
        | Annotated[list[dict[str, StrictFloat]], Tag("batch")],
        Discriminator(lambda value: "batch" if isinstance(value, list) else "one"),
    ] = Field(description="Every state by its name, in its unit; see /spec.")
    deterministic: bool = Field(True, description="Without exploration noise.")
    masks: list[list[bool]] | None = Field(
        None, description="Which actions are possible, a row an observation."
    )
    session: str | None = Field(
        None,
        max_length=100,
        description="For a policy with a memory: its session.",
    )
    begin: bool = Field(False, description="An episode begins: the session's memory is empty.")


class Answer(BaseModel):
    """Actions by name, in their units."""

    actions: dict[str, Any] | list[dict[str, Any]]


class _Ascii(JSONResponse):
    """Half a character that a client sent has no UTF-8, but it has an escape."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_app(
    folder: Path, token: str | None = None, names: Collection[str] | None = ()
) -> FastAPI:
    """The application of a bundle.

    Args:
        folder: The bundle; its hashes are compared.
        token: Token that every request must bring (``Authorization: Bearer …``); None: nothing.
        names: Names that requests may call this server by, beside those of the loopback; None:
            every name, which is safe with a token only.

    Raises:
        NotFound, CorruptObject: See ``bundles.read``.
        ConfigError: It is not an ONNX bundle, or its values have no names.
    """
    index, _ = bundles.read(folder)
    bundles.must_act(folder, index)
    spaces: Described = json.loads((folder / "spaces.json").read_text(encoding="utf-8"))
    if not spaces["channels"]["observation"]:
        raise ConfigError(
            "observes images, but this server takes named numbers",
            file=str(folder),
            hint="use act.py of the bundle",
        )
    served = _Served(folder, spaces)
    app = FastAPI(
        title=f"{index['algorithm']} of {index['experiment']}/{index['run']}",
        description="A policy of drillyard.",
        version=str(index["drillyard"]),
    )
    app.add_middleware(
        Guard,
        names=names,
        max_bytes=_longest(spaces),
        longest=f"{MAX_BATCH} observations",
        refused=served.refused.inc,
    )
    _explain_refusals(app, served.refused)
    allowed = [Depends(_bearer(token))] if token else []

    # On the loop itself, one after the other: a thread takes longer to begin than the network.
    @app.post("/act", response_model=Answer, dependencies=allowed)
    async def act(question: Question) -> JSONResponse:
        """Returns the policy's actions."""
        return JSONResponse({"actions": served.answer(question)})

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Reports that the server is up."""
        return {"status": "ok"}

    @app.get("/spec", dependencies=allowed)
    def spec() -> dict[str, Any]:
        """Returns names, units and ranges, and the origin of the policy."""
        return {**{k: v for k, v in index.items() if k != "files"}, **spaces}

    @app.get("/metrics", dependencies=allowed)
    def metrics() -> PlainTextResponse:
        """Returns metrics for Prometheus."""
        return PlainTextResponse(generate_latest(served.registry).decode())

    return app


def _explain_refusals(app: FastAPI, count: Counter) -> None:
    """Answers a question that FastAPI refuses in the form of all other refusals."""

    @app.exception_handler(RequestValidationError)
    async def refused(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was sent, as FastAPI would add it: NaN has no JSON.
        count.inc()
        problems = [{name: e[name] for name in ("type", "loc", "msg")} for e in error.errors()]
        return _Ascii({"detail": problems[:MAX_PROBLEMS]}, 422)

    @app.exception_handler(AnyHTTPException)
    async def ended(_: Request, error: AnyHTTPException) -> JSONResponse:
        if error.status_code != 400:
            return _Ascii({"detail": error.detail}, error.status_code, error.headers)
        # FastAPI says so of a body that breaks its reader: too deep, or a number of 5,000 digits.
        count.inc()
        return _Ascii({"detail": [_problem([], "cannot be read as JSON")]}, 422)


def _longest(spaces: Described) -> int:
    """Bytes of the longest question that can be meant: a full batch, with its masks."""
    names = [len(json.dumps(c["name"])) for c in spaces["channels"]["observation"]]
    masks = 8 * (spaces["masks"] or 0)
    return 4096 + MAX_BATCH * (sum(names) + _BYTES_A_NUMBER * len(names) + masks + 8)


def _bearer(token: str) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "a token is needed: Authorization: Bearer …")

    return check


class _Served:
    def __init__(self, folder: Path, spaces: Described) -> None:
        self._folder, self._spaces = folder, spaces
        self._policy = Policy(folder)
        self._memories: OrderedDict[str, list[np.ndarray]] = OrderedDict()
        self._channels = {c["name"]: c for c in spaces["channels"]["observation"]}
        self.registry = CollectorRegistry()
        self._count = Counter("drillyard_actions", "Actions given.", registry=self.registry)
        self.refused = Counter("drillyard_refused", "Questions refused.", registry=self.registry)
        self._time = Histogram(
            "drillyard_act_seconds",
            "Time of the network.",
            registry=self.registry,
            buckets=_BUCKETS,
        )

    def answer(self, question: Question) -> dict[str, Json] | list[dict[str, Json]]:
        """Returns actions by name. Not thread-safe: the policy holds the session's memory.

        Raises:
            HTTPException: What is wrong with the question, name by name.
        """
        rows = question.states if isinstance(question.states, list) else [question.states]
        problems = list(self._problems(question, rows))
        if problems:
            self.refused.inc()
            raise HTTPException(422, problems[:MAX_PROBLEMS])
        began = time.perf_counter()
        remembers = bool(self._spaces["memory"])
        if remembers:
            self._policy.memory = (
                [] if question.begin else self._memories.get(str(question.session), [])
            )
        actions: dict[str, Json] | list[dict[str, Json]] = self._policy.act_named(
            question.states, question.deterministic, masks=question.masks
        )
        if remembers:
            self._memories[str(question.session)] = self._policy.memory
            self._memories.move_to_end(str(question.session))
            while len(self._memories) > MAX_SESSIONS:
                self._memories.popitem(last=False)
        self._time.observe(time.perf_counter() - began)
        self._count.inc(len(rows))
        return actions

    def _problems(self, question: Question, rows: list[dict[str, float]]) -> Iterator[Problem]:
        """Yields the problems of a question, in FastAPI's form."""
        if not 0 < len(rows) <= MAX_BATCH:
            yield _problem(["states"], f"a batch has 1 to {MAX_BATCH} observations")
            return
        if self._spaces["memory"] and question.session is None:
            yield _problem(["session"], "this policy has a memory: name the session")
        masks, width = question.masks, self._spaces["masks"]
        if masks is not None and (
            not width or len(masks) != len(rows) or any(len(m) != width for m in masks)
        ):
            yield _problem(["masks"], f"needs {len(rows)} rows of {width or 0}")
        for number, row in enumerate(rows):
            at = ["states", number] if isinstance(question.states, list) else ["states"]
            for name in row.keys() - self._channels.keys():
                yield _problem([*at, name], f"unknown; there are: {', '.join(self._channels)}")
            for name, channel in self._channels.items():
                if text := _value_problem(row.get(name), channel):
                    yield _problem([*at, name], text)


def _value_problem(value: float | None, channel: ChannelJson) -> str:
    """What is wrong with a state; empty if nothing."""
    unit, low, high = channel["unit"], channel["low"], channel["high"]
    if value is None:
        return f"is missing (in {unit})"
    if not abs(value) <= _LARGEST:  # NaN neither
        return "is not finite"
    if low is not None and high is not None and not low <= value <= high:
        return f"{value:g} is outside {low:g} to {high:g} {unit}"
    return ""


def _problem(place: list[str | int], message: str) -> Problem:
    return {"type": "value_error", "loc": ["body", *place], "msg": message}
