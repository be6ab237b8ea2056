"""A bundle behind HTTP: a real server, real requests."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from drillyard.agents.trained import trained
from drillyard.cli.main import main
from drillyard.policies.export import export
from tests.conftest import ROOT
from tests.helpers.patience import PATIENCE_S
from tests.unit.policies.test_export import CASES, trained_run

pytestmark = pytest.mark.heavy

OTHERS = [
    "torch",
    "gymnasium",
    "stable_baselines3",
    "sb3_contrib",
    "safetensors",
    "scipy",
    "mlflow",
    "prefect",
    "optuna",
    "matplotlib",
    "pandas",
    "onnx",
]
"""What other extras bring."""
GOOD = {"Tr": 300.0, "Cr": 8.5, "Cref": 2.0, "Tc": 240.0}


def bundle_of(folder, algorithm):
    run = trained_run(folder / "store", algorithm, *CASES[algorithm])
    with trained(run.mailbox, run.run) as policy:
        export(policy, "onnx", folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundle_of(tmp_path_factory.mktemp("served"), "ppo")


def start(bundle, *words, program=("-m", "drillyard.cli.start"), **environment):
    process = subprocess.Popen(
        [sys.executable, *program, "serve", str(bundle), "--port", "0", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    line = process.stdout.readline()  # written once the port is bound
    return process, httpx.Client(base_url=line.split(" on ")[1].split()[0], timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def server(bundle):
    process, client = start(bundle)
    yield client
    client.close()
    process.terminate()
    process.wait(PATIENCE_S)
    process.stdout.close()


def test_named_states_in_named_actions_out(server, bundle):
    from drillyard.policies.act import Policy

    answer = server.post("/act", json={"states": GOOD})
    assert answer.status_code == 200, answer.text
    assert answer.json()["actions"] == pytest.approx(Policy(bundle).act_named(GOOD))
    batch = server.post("/act", json={"states": [GOOD, {**GOOD, "Tr": 310.0}]}).json()["actions"]
    assert batch[0] == pytest.approx(answer.json()["actions"], abs=1e-4) and len(batch) == 2
    assert server.get("/health").json() == {"status": "ok"}
    spec = server.get("/spec").json()
    assert spec["channels"]["action"] == [
        {"name": "Tc_adjust", "unit": "K", "low": -10.0, "high": 10.0, "values": None}
    ]
    assert "drillyard_actions_total" in server.get("/metrics").text
    assert "/act" in server.get("/openapi.json").json()["paths"]
    assert server.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("states", "name", "word"),
    [
        ({**GOOD, "Tx": 1.0}, "Tx", "unknown"),
        ({"Tr": 300.0}, "Cr", "missing"),
        ({**GOOD, "Tr": 700.0}, "Tr", "outside -600 to 600 K"),
        ({**GOOD, "Tr": "warm"}, "Tr", ""),
        ({**GOOD, "Cr": float("nan")}, "Cr", "finite"),
        ([], "states", "1 to"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(server, states, name, word):
    body = json.dumps({"states": states})  # NaN as Python writes it
    answer = server.post("/act", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    problems = answer.json()["detail"]
    assert any(name in p["loc"] and word in p["msg"] for p in problems), problems


@pytest.mark.parametrize(
    "body",
    [
        '{"states": {"\\ud800": 1.0}}',  # half a character: it has no UTF-8
        '{"states": {"Tr": "\\ud800"}}',
        '{"states": {}, "\\ud800": 1}',
        '{"states": {"Tr": 1' + "0" * 400 + "}}",
        '{"states": {"Tr": 1' + "0" * 5000 + "}}",
        "[" * 50_000,
        b"\xff\xfe",
        '{"states": NaN}',
        '{"states": {}, "sure": NaN}',
        '{"states": {"Tr": true}}',
        '{"states": {"Tr": "300"}}',
        '{"states": {"Tr": [NaN]}}',
        "no JSON",
        "[NaN",
    ],
)
def test_whatever_is_sent_is_answered_and_counted(server, body):
    def refused():
        return float(
            re.search(r"(?m)^drillyard_refused_total (\S+)", server.get("/metrics").text)[1]
        )

    before = refused()
    answer = server.post("/act", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["msg"]
    assert server.get("/health").status_code == 200
    assert refused() == before + 1


def raw(server, request):
    """What is answered to these bytes, which may end anywhere."""
    address = (server.base_url.host, server.base_url.port)
    parts = []
    with (
        socket.create_connection(address, PATIENCE_S) as connection,
        contextlib.suppress(ConnectionError),  # it does not read what is left
    ):
        connection.sendall(request.encode())
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server):
    # Only the header is sent: whoever waits for the body never answers.
    head = "POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = raw(server, f"{head}Content-Length: 10000000\r\n\r\n")
    assert answer.startswith("HTTP/1.1 413 "), answer
    assert "at most" in answer and "4096 observations" in answer
    # Without its length, the reading ends at the bound: the last chunk is never sent.
    chunk = "fffff\r\n" + " " * 0xFFFFF + "\r\n"
    answer = raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n{chunk}")
    assert answer.startswith("HTTP/1.1 413 "), answer
    largest = server.post("/act", json={"states": [GOOD] * 4096})
    assert largest.status_code == 200 and len(largest.json()["actions"]) == 4096


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("localhost.evil.example", 421),
        ("169.254.169.254", 421),
        ("[::1", 421),
        ("", 421),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("policy.localhost", 200),
        ("127.0.0.1:1", 200),
        ("127.9.9.9", 200),
        ("[::1]:8080", 200),
    ],
)
def test_another_sites_name_for_this_machine_is_refused(server, host, status):
    # A page may point its own name at 127.0.0.1; the browser then sends that name.
    for path in ("/health", "/docs", "/spec"):
        answer = server.get(path, headers={"host": host})
        assert answer.status_code == status, (path, answer.text)
    if status == 421:
        assert "--host" in answer.json()["detail"]


def test_a_page_of_another_site_cannot_send_observations(server):
    """It may send other content types than JSON only; JSON it must ask for first, in vain."""
    evil, states = {"origin": "https://evil.example"}, json.dumps({"states": GOOD}).encode()
    for kind in ({}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}):
        answer = server.post("/act", content=states, headers={**evil, **kind})
        assert answer.status_code == 422, answer.text
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    answer = server.options("/act", headers={**evil, **asked})
    assert not [name for name in answer.headers if name.startswith("access-control-allow")]
    answer = server.get("/spec", headers=evil)
    assert "access-control-allow-origin" not in answer.headers


def test_the_name_that_host_gives_is_accepted(bundle):
    from fastapi.testclient import TestClient

    from drillyard.policies.serving import make_app

    named = make_app(bundle, "s3cret", ["Policy.Internal"])
    assert TestClient(named, "http://policy.internal:80").get("/health").status_code == 200
    assert TestClient(named, "http://localhost").get("/health").status_code == 200
    assert TestClient(named, "http://evil.example").get("/health").status_code == 421
    # Every address needs a token, which a page of another site does not have.
    every = make_app(bundle, "s3cret", None)
    assert TestClient(every, "http://any.example").get("/health").status_code == 200


def test_many_at_once_get_their_own_answers(server):
    def ask(reading):
        sent = {**GOOD, "Tr": float(reading)}
        return server.post("/act", json={"states": sent}).json()["actions"]["Tc_adjust"]

    alone = [ask(t) for t in range(280, 320)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(280, 320))) == alone


def test_a_memory_is_its_sessions_own(tmp_path):
    bundle = bundle_of(tmp_path, "recurrent-ppo")
    from fastapi.testclient import TestClient

    from drillyard.policies.act import Policy
    from drillyard.policies.serving import make_app

    client, policy = TestClient(make_app(bundle), "http://localhost"), Policy(bundle)
    states = [{"observation_0": x, "observation_1": 0.5, "observation_2": -x} for x in (0.1, 0.9)]
    assert client.post("/act", json={"states": states[0]}).status_code == 422

    def ask(session, state, **more):
        sent = {"states": state, "session": session, **more}
        return client.post("/act", json=sent).json()["actions"]["action"]

    expected = [policy.act_named(s)["action"] for s in (*states, *states)]
    first = [ask("a", states[0]), ask("a", states[1])]
    assert ask("b", states[0]) == pytest.approx(first[0])
    assert [*first, ask("a", states[0]), ask("a", states[1])] == pytest.approx(expected)
    assert ask("a", states[0], begin=True) == pytest.approx(first[0])


def test_others_need_a_token_and_it_ends_gracefully(bundle, capsys, monkeypatch):
    monkeypatch.delenv("DRILLYARD_SERVE_TOKEN", raising=False)
    assert main(["serve", str(bundle), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "token" in capsys.readouterr().err
    process, client = start(bundle, DRILLYARD_SERVE_TOKEN="s3cret")
    try:
        assert client.post("/act", json={"states": GOOD}).status_code == 401
        bearer = {"authorization": "Bearer s3cret"}
        assert client.post("/act", json={"states": GOOD}, headers=bearer).status_code == 200
        assert client.get("/health").status_code == 200
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_address_that_is_printed_takes_connections(bundle, capsys, monkeypatch):
    def run(self, sockets):
        said = capsys.readouterr().out
        port = sockets[0].getsockname()[1]
        assert f":{port} " in said
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()

    monkeypatch.setattr("uvicorn.Server.run", run)
    assert main(["serve", str(bundle), "--port", "0"]) == 0


ALONE = f"""
import sys
sys.modules.update(dict.fromkeys({OTHERS!r}))  # importing them fails
from drillyard.cli.start import main
sys.exit(main())
"""


def test_the_containers_command_needs_the_extra_serve_alone(bundle):
    text = (ROOT / "deployments" / "policy" / "Dockerfile").read_text()
    assert 'DRILLYARD="drillyard[serve]"' in text and "USER nobody" in text
    program, verb, place, *words = json.loads(re.search(r"^CMD (.*)$", text, re.M)[1])
    assert (program, verb) == ("drillyard", "serve") and f"COPY ${{BUNDLE}} {place}" in text
    token = {"DRILLYARD_SERVE_TOKEN": "s3cret"}
    process, client = start(bundle, *words, program=("-c", ALONE), **token)
    try:
        assert client.get("/health").status_code == 200
        bearer = {"authorization": "Bearer s3cret"}
        assert client.post("/act", json={"states": GOOD}, headers=bearer).status_code == 200
    finally:
        client.close()
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_is_no_bundle_is_refused(tmp_path, capsys):
    assert main(["serve", str(tmp_path)]) == 2
    assert "no bundle" in capsys.readouterr().err
