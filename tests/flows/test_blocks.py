"""Backend settings and secrets in a real Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
from prefect.blocks.system import Secret
from drillyard import settings
from drillyard.errors import ConfigError
from drillyard_flows.blocks import DrillyardBackend

DrillyardBackend(kind="local", settings={"stop_grace_s": 33}).save("bench", overwrite=True)
DrillyardBackend(kind="cloudy", settings={"zone": "z"}, secrets={"token": "hush-hush-hush"}).save(
    "prod", overwrite=True
)
Secret(value="top-of-the-secrets").save("cloud-key", overwrite=True)

found = settings.resolve("local/bench")
given, secret = settings.blocks("x").settings("cloudy", "prod")
said = []
for text in ("local/prod", "local/missing"):
    try:
        settings.resolve(text)
    except ConfigError as error:
        said.append(str(error))
try:
    settings.reveal("secret:nowhere", "x", secret=True)
except ConfigError as error:
    said.append(str(error))
sys.stdout.write("\\n" + json.dumps({
    "values": found.values, "origins": found.origins, "given": given, "secret": sorted(secret),
    "looked_up": settings.reveal("secret:cloud-key", "x", secret=True), "said": said,
    "opened": settings.open_settings("local/bench", {})["stop_grace_s"],
}))
"""


def test_a_named_block_gives_settings_and_keeps_secrets(api, tmp_path: Path) -> None:
    env = {
        **os.environ, "PREFECT_API_URL": api.url, "DRILLYARD_CONFIG_DIR": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["values"] == {"stop_grace_s": 33} and told["opened"] == 33
    assert told["origins"] == {"stop_grace_s": "Prefect block bench"}
    assert told["given"] == {"zone": "z", "token": "hush-hush-hush"}
    assert told["secret"] == ["token"]
    assert told["looked_up"] == "top-of-the-secrets"
    assert "is for the backend 'cloudy'" in told["said"][0]
    assert "has no" in told["said"][1] and "has no" in told["said"][2]
    stored = api.post("/block_documents/filter", {"include_secrets": False})
    assert "hush-hush" not in json.dumps(stored)


def test_a_server_that_is_away_says_so_and_never_the_secret(tmp_path: Path) -> None:
    env = {
        **os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_CLIENT_MAX_RETRIES": "0", "DRILLYARD_CONFIG_DIR": str(tmp_path),
    }  # fmt: skip
    program = "from drillyard import settings; settings.resolve('local/bench')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert "ConfigError" in done.stderr and "cannot be read" in done.stderr
