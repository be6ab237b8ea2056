"""What compose.yaml starts, as processes: its own commands, variables, names and proxy.

    unshare --net --mount --pid --fork --kill-child --mount-proc \\
        python -m tests.helpers.composed FOLDER

In a network of its own, so that its ports are free and its names lead here, and among processes
of its own, which end with it. Prints what a user of these servers saw, as JSON.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.helpers.mlflow_machines import BIN as POSTGRESQL
from tests.helpers.patience import until
from tests.helpers.process_rules import EXEMPT
from tests.helpers.processes import run_process

SERVERS = Path(__file__).parents[2] / "deployments" / "servers"
BIN = Path(sys.executable).parent
HOME = "/home/drillyard"
SITE, MLFLOW_SITE = "prefect.localhost", "mlflow.localhost"
"""Names for which Caddy makes certificates itself."""
GIVEN = {
    "SITE": SITE,
    "MLFLOW_SITE": MLFLOW_SITE,
    "DATABASE_PASSWORD": "of-the-database",
    "PREFECT_PASSWORD": "of-prefect",
    "MLFLOW_PASSWORD": "of-mlflow-it-is-long",
    "MLFLOW_SECRET_KEY": "signs-sessions",
    "PREFECT_ENCRYPTION_KEY": urlsafe_b64encode(os.urandom(32)).decode(),
}
MOCK = {
    "schema": 1,
    "name": "composed",
    "workload": "mock",
    "seeds": [1, 2],
    "mock": {"metrics": ["score"]},
}


class Composed:
    """The services of the file.

    Args:
        folder: Instead of the containers' own file systems.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.root = folder / "caddy/pki/authorities/local/root.crt"
        self.services = YAML(typ="safe").load(self.filled((SERVERS / "compose.yaml").read_text()))[
            "services"
        ]
        self.trust = {"SSL_CERT_FILE": str(self.root), "REQUESTS_CA_BUNDLE": str(self.root)}

    def filled(self, text: str) -> str:
        """A file of the servers, as Compose and the containers see it."""

        def value(match: re.Match[str]) -> str:
            name, default = match["name"], match["default"]
            return GIVEN.get(name) or default or ""

        text = re.sub(r"\$\{(?P<name>\w+)(?::\?[^}]*|:-(?P<default>[^}]*))?\}", value, text)
        return text.replace(HOME, str(self.home))

    def environ(self, name: str) -> dict[str, str]:
        """Of a service, with the files that it mounts where they are here."""
        service = self.services[name]
        found = {k: str(v) for k, v in service["environment"].items()}
        for volume in service.get("volumes", []):
            source, path = volume.split(":")[:2]
            if source.startswith("./"):
                copy = self.folder / name / Path(source).name
                copy.parent.mkdir(exist_ok=True)
                copy.write_text(self.filled((SERVERS / source).read_text()))
                found = {k: v.replace(path, str(copy)) for k, v in found.items()}
        path = f"{BIN}:{os.environ['PATH']}"
        return {
            "PATH": path,
            "HOME": str(self.home),
            "DO_NOT_TRACK": "1",
            EXEMPT: "it has a network of its own, in which services find each other by name",
            **found,
        }

    def start(self, name: str, command: list[str], environ: dict[str, str]) -> None:
        with open(self.folder / f"{name}.log", "w") as log:
            subprocess.Popen(
                command,
                env=environ,
                cwd=self.home,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def database(self) -> None:
        """PostgreSQL with its user, its database and what its image runs at the first start."""
        programs, data = POSTGRESQL, self.folder / "data"
        given = self.environ("database")
        user = given["POSTGRES_USER"]
        # It refuses root, who is nobody special here.
        plain = ["unshare", "--user", "--map-user=1", "--map-group=1"]
        secret = self.folder / "password"
        secret.write_text(given["POSTGRES_PASSWORD"])
        done = run_process(
            [
                *plain,
                f"{programs}/initdb",
                "-D",
                str(data),
                "-U",
                user,
                "-A",
                "scram-sha-256",
                "--pwfile",
                str(secret),
            ]
        )
        assert done.returncode == 0, done.stderr
        self.start(
            "database",
            [*plain, f"{programs}/postgres", "-D", str(data), "-c", "unix_socket_directories="],
            dict(os.environ),
        )
        environ = {
            **os.environ,
            "PGPASSWORD": given["POSTGRES_PASSWORD"],
            "PGHOST": "database",
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        psql = ["psql", "-U", user, "-v", "ON_ERROR_STOP=1", "-q"]
        until(lambda: _good(["pg_isready"], environ), what="the database")
        subprocess.run(["createdb", "-U", user, given["POSTGRES_DB"]], env=environ, check=True)
        run_process(
            [*psql, "-d", given["POSTGRES_DB"], "-f", str(SERVERS / "databases.sql")],
            env=environ,
            check=True,
        )
        healthy = self.services["database"]["healthcheck"]["test"]
        until(lambda: _good(healthy[1:], environ), what="a healthy database")

    def proxy(self) -> None:
        """Caddy with the very file, but that it must not change whom this machine trusts."""
        given = self.environ("proxy")
        environ = {**given, "XDG_DATA_HOME": str(self.folder)}
        adapted = run_process(
            ["caddy", "adapt", "--config", str(self.folder / "proxy" / "Caddyfile")],
            env=environ,
            check=True,
        ).stdout
        config = json.loads(adapted)
        config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
        config["admin"] = {"disabled": True}
        (self.folder / "caddy.json").write_text(json.dumps(config))
        self.start("proxy", ["caddy", "run", "--config", str(self.folder / "caddy.json")], environ)
        until(self.root.is_file, what="Caddy's own authority")

    def service(self, name: str, **more: str) -> None:
        """Prefect, MLflow or the worker."""
        command = [str(word) for word in self.services[name]["command"]]
        self.start(name, command, {**self.environ(name), **more})


def _good(command: list[str], environ: dict[str, str]) -> bool:
    return run_process(command, env=environ).returncode == 0


def _status(url: str, login: tuple[str, str] | None = None) -> int:
    """What the proxy answers; 0 where nobody does."""
    request = urllib.request.Request(url)
    if login is not None:
        pair = b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _names(composed: Composed) -> None:
    """Names of services and of the proxy lead to this machine, for these processes alone."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    aliases = composed.services["proxy"]["networks"]["default"]["aliases"]
    names = ["localhost", *composed.services, *aliases]
    hosts = composed.folder / "hosts"
    hosts.write_text(f"127.0.0.1 {' '.join(names)}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)


def _used(composed: Composed) -> dict[str, Any]:
    """A user elsewhere: looks, deploys, starts a run, and finds it in MLflow."""
    work = composed.folder / "work"
    work.mkdir()
    (work / "composed.json").write_text(json.dumps(MOCK))
    environ = {
        **os.environ,
        **composed.trust,
        "HOME": str(composed.folder),
        "PREFECT_API_URL": f"https://{SITE}/api",
        "PREFECT_API_AUTH_STRING": f"drillyard:{GIVEN['PREFECT_PASSWORD']}",
        "MLFLOW_TRACKING_URI": f"https://{MLFLOW_SITE}",
        "MLFLOW_TRACKING_USERNAME": "drillyard",
        "MLFLOW_TRACKING_PASSWORD": GIVEN["MLFLOW_PASSWORD"],
    }
    os.environ.update(composed.trust)
    until(lambda: _status(f"https://{SITE}/api/health") == 200, what="Prefect")
    until(lambda: _status(f"https://{MLFLOW_SITE}/health") == 200, what="MLflow")
    said = {}
    for name, words in {
        "doctor": [BIN / "drillyard", "doctor"],
        "deploy": [BIN / "drillyard", "deploy"],
        "run": [
            BIN / "prefect",
            "deployment",
            "run",
            "experiment/nightly",
            "-p",
            f"file={work / 'composed.json'}",
            "--watch",
        ],
    }.items():
        done = run_process([str(word) for word in words], env=environ, cwd=work)
        said[name] = {"code": done.returncode, "text": done.stdout + done.stderr}
    find = f"https://{MLFLOW_SITE}/api/2.0/mlflow/experiments/get-by-name?experiment_name=composed"
    login = ("drillyard", GIVEN["MLFLOW_PASSWORD"])
    # The last points are sent once the run has ended.
    until(lambda: _status(find, login) == 200, what="the experiment in MLflow")
    return {
        "said": said,
        "strangers": [_status(f"https://{SITE}/api/admin/version"), _status(find)],
        "stored": sorted(
            str(p.relative_to(composed.home)) for p in composed.home.rglob("store.accepted.json")
        ),
    }


def main(folder: Path) -> None:
    """Start everything, use it, and say what was seen."""
    composed = Composed(folder)
    composed.home.mkdir(parents=True)
    for volume in ("artifacts", "runs", "users"):
        (composed.home / volume).mkdir()
    _names(composed)
    composed.database()
    composed.service("prefect")
    composed.service("mlflow")
    composed.proxy()
    composed.service("worker", **composed.trust)
    print(json.dumps(_used(composed)))


if __name__ == "__main__":
    if missing := [p for p in ("caddy", "ip", "unshare") if shutil.which(p) is None]:
        sys.exit(f"not installed: {missing}")
    main(Path(sys.argv[1]))
