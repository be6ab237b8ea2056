"""``drillyard up --database postgresql``: both servers on a PostgreSQL of their own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard_flows.local_stack import postgresql
from tests.flows.conftest import DRILLYARD
from tests.helpers.patience import PATIENCE_S
from tests.helpers.yard import free_ports, plain_user

needed = pytest.mark.skipif(
    postgresql.programs() is None, reason="no PostgreSQL (Debian: apt-get install postgresql)"
)


PROGRAM = """
import json, os, sys
from pathlib import Path
from drillyard_flows.local_stack import postgresql
from drillyard_flows.local_stack.stack import LocalStack
from drillyard_flows.local_stack.starting import start, stop
stack = LocalStack.at(Path(sys.argv[1]))
with stack.locked():
    service = postgresql.service(stack, int(sys.argv[2]), dict(os.environ))
    found = [start(stack, service), start(stack, service)]
    found += [stop(stack, "postgresql"), stop(stack, "postgresql")]
    again = start(stack, service)
    import psycopg
    url = postgresql.url(stack, int(sys.argv[2]), "mlflow", "psycopg").replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        names = connection.execute("select datname from pg_database").fetchall()
    try:
        psycopg.connect(url.replace(stack.passwords()["postgresql"], "guessed"))
        found.append("open")
    except psycopg.OperationalError:
        pass
    stop(stack, "postgresql")
print(json.dumps([found, again, [name for name, in names]]))
"""


@needed
def test_it_is_made_once_asks_for_a_password_and_keeps_its_data(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    done = subprocess.run(
        [*plain_user(), sys.executable, "-c", PROGRAM, str(tmp_path / "up"), str(port)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, again, names = json.loads(done.stdout.splitlines()[-1])
    assert found == [True, False, True, False] and again
    assert {"prefect", "mlflow"} <= set(names)
    data = tmp_path / "up" / "postgresql"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert not list(data.parent.glob("tmp*"))  # the password's file is gone


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [DRILLYARD, "up", "--folder", str(tmp_path / "up"), "--database", "postgresql"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2 and "root" in done.stderr, done.stderr
    assert not (tmp_path / "up").exists()
