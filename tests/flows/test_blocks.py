"""Backend settings and secrets in a real Prefect server."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest

from drillyard.backend.settings.resolve import fields_of
from drillyard_flows.blocks import block_of
from tests.flows.conftest import DRILLYARD
from tests.helpers import rules
from tests.helpers.processes import run_process
from tests.unit.backend.test_configure import BACKENDS, REQUIRED

CLOUDY = """
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    zone: str = Field(description="Where.")
    size: int = Field(3, ge=1)
    most: int | None = None
    token: SecretStr | None = None

    @model_validator(mode="after")
    def _most(self):
        if self.most is not None and self.most < self.size:
            raise ValueError("most: is smaller than size")
        return self


class CloudyBackend:
    Config = Config
"""
PROGRAM = """
import json, os, sys
import httpx
from prefect.blocks.system import Secret
from drillyard.backend.settings import references
from drillyard.backend.settings import resolve as settings
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import register
register("backends", "cloudy", "cloudy:CloudyBackend")
from drillyard_flows import blocks
from drillyard_flows.blocks import CloudyBackend, LocalBackend

LocalBackend(stop_grace_s=33).save("bench", overwrite=True)
CloudyBackend(zone="z", token="hush-hush-hush").save("prod", overwrite=True)
Secret(value="top-of-the-secrets").save("cloud-key", overwrite=True)
keeper = references.blocks("x")
text = keeper.save("cloudy", "lab", {"zone": "y", "token": "as-quiet-as-it-gets"})
keeper.save("cloudy", "lab", {"size": 5})
# A form of Prefect's UI saves what it is given.
saved = CloudyBackend.load("prod")
ids = {"block_type_id": saved._block_type_id, "block_schema_id": saved._block_schema_id}
forms = {
    "low": {"zone": "z", "size": 0, "token": "hush-hush-hush"}, "none": {"size": 4},
    "rule": {"zone": "z", "size": 9, "most": 4, "token": "hush-hush-hush"},
}
for name, data in forms.items():
    form = {"name": name, "data": data, **{key: str(value) for key, value in ids.items()}}
    httpx.post(os.environ["PREFECT_API_URL"] + "/block_documents/", json=form).raise_for_status()

lab = CloudyBackend.load("lab")
form = {"data": {"zone": "y", "size": 7, "token": "as-quiet-as-it-gets"}}
before = keeper.settings("cloudy", "lab")[0]
form["block_schema_id"] = str(lab._block_schema_id)
address = os.environ["PREFECT_API_URL"] + f"/block_documents/{lab._block_document_id}"
httpx.patch(address, json=form).raise_for_status()

found = settings.resolve("local/bench")
given, secret = keeper.settings("cloudy", "prod")
said = []
for wrong in (
    lambda: settings.resolve("local/missing"),
    lambda: references.reveal("secret:nowhere", "x", secret=True),
    lambda: keeper.save("cloudy", "lab", {"size": 0, "zoom": 1}),
    lambda: CloudyBackend(zone="z", tokn="x"),
    lambda: keeper.save("cloudy", "my lab!", {"zone": "y"}),
    lambda: keeper.settings("cloudy", "low"),
    lambda: keeper.settings("cloudy", "none"),
    lambda: keeper.settings("cloudy", "rule"),
    lambda: CloudyBackend(size=9, most=4, token="hush-hush-hush"),
    lambda: CloudyBackend(zone="z", token=["hush-hush-hush"]),
    lambda: keeper.save("cloudy", "new", {"zone": "z", "size": 9, "most": 4}),
):
    try:
        wrong()
    except (ConfigError, ConfigErrors) as error:
        said.append(f"{error} | {getattr(error, 'hint', None)}")
keeper.save("cloudy", "none", {"zone": "w"})
sys.stdout.write("\\n" + json.dumps({
    "values": found.values, "origins": found.origins, "given": given, "secret": sorted(secret),
    "text": text, "lab": before, "edited": keeper.settings("cloudy", "lab")[0],
    "filled": keeper.settings("cloudy", "none")[0],
    "looked_up": references.reveal("secret:cloud-key", "x", secret=True), "said": said,
    "opened": settings.open_settings("local/bench", {})["stop_grace_s"],
    "shown": repr(CloudyBackend.load("prod")), "known": sorted(dir(blocks)),
    "revealed": settings.resolve("cloudy/prod").revealed()["token"],
}))
"""


def test_a_backend_has_a_block_of_its_own_and_keeps_secrets(api, tmp_path):
    (tmp_path / "cloudy.py").write_text(CLOUDY)
    env = {
        **os.environ,
        "PREFECT_API_URL": api.url,
        "DRILLYARD_CONFIG_DIR": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PYTHONPATH": rules.path(tmp_path),
    }
    done = run_process([sys.executable, "-c", PROGRAM], env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["values"] == {"stop_grace_s": 33} and told["opened"] == 33
    assert told["origins"] == {"stop_grace_s": "Prefect block bench"}
    assert told["given"] == {"zone": "z", "token": "hush-hush-hush"}
    assert told["secret"] == ["token"] and told["revealed"] == "hush-hush-hush"
    assert told["text"] == "cloudy/lab"
    assert told["lab"] == {"zone": "y", "token": "as-quiet-as-it-gets", "size": 5}
    assert told["edited"] == {**told["lab"], "size": 7}, "an edit counts at the next run"
    assert told["looked_up"] == "top-of-the-secrets"
    missing, nowhere, refused, unknown, unnamed, low, absent, *rules_of_two = told["said"]
    rule, lacking, secret, new = rules_of_two
    assert "block cloudy/rule: backends.cloudy.most: is smaller than size (got 4)" in rule
    assert "backends.cloudy.zone: Field required" in lacking and "Where." in lacking
    assert "backends.cloudy.token" in secret and "hush" not in secret + lacking + rule
    assert "backends.cloudy.most: is smaller than size (got 4)" in new
    assert "has no" in missing and "has no" in nowhere
    assert "size" in refused and "zoom" in refused and "tokn" in unknown
    assert "not a block name" in unnamed and "my lab!" in unnamed
    for text, field in ((low, "size"), (absent, "zone")):
        assert f"block cloudy/{'low' if field == 'size' else 'none'}" in text and field in text
        assert "drillyard configure cloudy --block" in text and "not answer" not in text
    assert "zone: has no value: the block was saved without it, or before an update" in absent
    assert "got 0" in low and "hush" not in low + absent
    assert told["filled"] == {"zone": "w", "size": 4}
    assert {"LocalBackend", "SshBackend", "DaskBackend", "GcpBackend"} < set(told["known"])
    stored = api.post("/block_documents/filter", {"include_secrets": False})
    for secret in ("hush-hush", "as-quiet", "top-of"):
        assert secret not in json.dumps(stored) + told["shown"]


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_form_has_what_is_required_first_groups_descriptions_and_a_logo(kind):
    block = block_of(kind)
    schema = block.model_json_schema()
    fields = sorted(schema["properties"].items(), key=lambda item: item[1]["position"])
    assert {name for name, _ in fields[: len(schema.get("required", []))]} == {
        *schema.get("required", [])
    }
    assert all(field["description"].endswith(".") for _, field in fields)
    assert str(block._logo_url).startswith("https://") and block.get_description()
    groups = [field["title"].partition(": ")[0] for _, field in fields]
    if len(fields) > 10:  # more than fit on a screen
        assert 3 < len(set(groups)) < 8 and all(": " in f["title"] for _, f in fields)
        assert [g for g, h in itertools.pairwise(groups) if g != h] == [*dict.fromkeys(groups)][
            :-1
        ], "each group is in one place"


CHECK = """
import sys
from drillyard_flows.check import check
print(check(backend=sys.argv[1], file=sys.argv[2]))
"""


def test_a_deployment_checks_a_block_and_rents_nothing(api, bench):
    file = bench.write("checked")
    more = {"PREFECT_API_URL": api.url, "DRILLYARD_STORE": str(bench.store)}

    def check(backend: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CHECK, backend, str(file)]
        return run_process(command, cwd=bench.folder, more=more)

    save = "from drillyard_flows.blocks import LocalBackend as B; B(stop_grace_s=3).save('seen')"
    run_process([sys.executable, "-c", save], more=more)
    done = check("local/seen")
    assert done.returncode == 0 and "{'ok':" in done.stdout, done.stderr
    table = api.artifacts(api.flow_run("check local/seen"))["check-local-seen"]
    assert "backend local" in str(json.loads(table["data"]))
    assert not (bench.store / "checked").exists()
    done = check("local/none")
    assert done.returncode == 1 and "Prefect has no" in done.stderr and "fix:" in done.stderr


@pytest.mark.parametrize("kind", BACKENDS)
def test_configure_keeps_the_settings_of_every_backend_in_prefect(api, tmp_path, kind):
    """By options and by answers; what is wrong or missing is told, and never as a bug."""
    env = {
        **os.environ,
        "PREFECT_API_URL": api.url,
        "DRILLYARD_CONFIG_DIR": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }

    def configure(*words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return run_process(
            [DRILLYARD, "configure", kind, *words], cwd=tmp_path, env=env, input=typed
        )

    given = REQUIRED[kind] or {"stop_grace_s": "7"}
    sets = [word for name, text in given.items() for word in ("--set", f"{name}={text}")]
    done = configure("--block", f"option-{kind}", *sets)
    assert done.returncode == 0 and f"backend: {kind}/option-{kind}" in done.stdout, done.stderr
    answers = "".join(f"{given.get(name, '')}\n" for name in fields_of(kind))
    done = configure("--block", f"answer-{kind}", typed=answers)
    assert done.returncode == 0 and f"backend: {kind}/answer-{kind}" in done.stdout, done.stderr
    assert not (tmp_path / "config.yaml").exists()
    for way in ("option", "answer"):
        env_kind = f"{kind}/{way}-{kind}"
        shown = run_process([DRILLYARD, "configure", env_kind, "--json"], cwd=tmp_path, env=env)
        found = {row["name"]: row["from"] for row in json.loads(shown.stdout)}
        assert {found[name] for name in given} == {f"Prefect block {way}-{kind}"}
    if len(REQUIRED[kind]) > 1:
        done = configure("--block", f"less-{kind}", *sets[:2])
        assert done.returncode == 2 and "is a bug" not in done.stderr
        assert list(given)[1] in done.stderr


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("http://127.0.0.1:9/api", "ControlPlaneError", "does not answer"),
        ("", "ConfigError", "there is no Prefect server that stores blocks"),
        ("127.0.0.1:9", "ConfigError", "is not the address of a server"),
    ],
)
def test_a_server_that_is_away_or_none_is_said(tmp_path, url, kind, said):
    env = {
        **os.environ,
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_CLIENT_MAX_RETRIES": "0",
        "DRILLYARD_CONFIG_DIR": str(tmp_path),
    }
    env = {name: value for name, value in env.items() if value}
    program = "from drillyard.backend.settings.resolve import resolve; resolve('local/bench')"
    done = run_process([sys.executable, "-c", program], env=env)
    assert kind in done.stderr and said in done.stderr
    assert not (tmp_path / "home" / "prefect.db").exists()  # none was started for it
