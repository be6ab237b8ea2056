"""``deployments/servers/``: what can be checked without Docker and without installing it."""

import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.helpers.processes import run_process

FOLDER = Path(__file__).parents[2] / "deployments" / "servers"


def test_compose_opens_the_proxy_alone_and_every_server_asks_for_a_password():
    text = (FOLDER / "compose.yaml").read_text()
    services = YAML(typ="safe").load(text)["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    assert "PREFECT_SERVER_API_AUTH_STRING" in services["prefect"]["environment"]
    assert "basic-auth" in services["mlflow"]["command"]
    assert (
        "postgresql" in services["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    )
    assert "postgresql" in services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert all("restart" in one for one in services.values())
    asked = set(re.findall(r"\$\{(\w+)", text))
    given = set(re.findall(r"^(\w+)=", (FOLDER / "env.example").read_text(), re.M))
    assert asked == given
    for one in services.values():
        for volume in one.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (FOLDER / source).is_file()


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_units_are_understood_by_systemd(tmp_path):
    units = sorted((FOLDER / "systemd").glob("*.service"))
    assert len(units) == 3
    for unit in units:
        text = unit.read_text()
        assert "EnvironmentFile=" in text and "password" not in text.split("[Unit]")[1].lower()
        # Their programs are where they will be installed, and not here.
        text = re.sub(r"/opt/drillyard/bin/\w+", "/bin/true", text)
        (tmp_path / unit.name).write_text(re.sub(r"(?m)^(User|EnvironmentFile)=.*\n", "", text))
    done = run_process(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))], timeout=120
    )
    assert done.returncode == 0 and "Unknown" not in done.stderr, done.stderr
