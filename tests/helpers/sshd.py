"""A real OpenSSH server on loopback: own port, host key, keys and folder, run as this user."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.helpers import rules
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import free_port, run_process

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
MaxStartups 100
AcceptEnv none
SetEnv HOME={home} PATH={path} PYTHONPATH={rules}{env}
Subsystem sftp {sftp}
"""


class Sshd:
    """A server, its keys, and what a client needs to log in.

    Args:
        folder: Of its own.
        sftp: Another program that answers SFTP.
        env: Further environment variables of every login.
    """

    def __init__(
        self, folder: Path, sftp: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        assert SSHD is not None
        self.folder = folder
        self.home = folder / "home"
        self._sftp = sftp or f"internal-sftp -d {self.home}"
        self.home.mkdir(parents=True)
        self._env = "".join(f' "{name}={value}"' for name, value in (env or {}).items())
        self.port = free_port()
        self.address = f"{getpass.getuser()}@127.0.0.1:{self.port}"
        self.key = folder / "key"
        self.known_hosts = folder / "known_hosts"
        self._keygen(self.key)
        (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
        self.new_host_key()
        self.trust()
        self._process: subprocess.Popen[bytes] | None = None

    def _keygen(self, path: Path) -> None:
        for old in (path, path.with_suffix(".pub")):
            old.unlink(missing_ok=True)
        run_process(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)

    def new_host_key(self) -> None:
        self._keygen(self.folder / "host_key")

    def trust(self) -> None:
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}\n")

    def start(self) -> Sshd:
        config = self.folder / "sshd_config"
        config.write_text(
            CONFIG.format(
                port=self.port,
                folder=self.folder,
                home=self.home,
                path=os.environ["PATH"],
                # Hosts run the same code as the tests, also in a second checkout.
                rules=":".join(filter(None, [str(rules.path()), os.environ.get("PYTHONPATH")])),
                sftp=self._sftp,
                env=self._env,
            )
        )
        if os.getuid() == 0:
            # Where sshd's privilege separation wants a folder that only boot makes.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with open(self.folder / "sshd.log", "ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return self
            assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and the logins that hang on it; what detached itself lives on."""
        if self._process is not None:
            ours = psutil.Process(self._process.pid)
            for process in [ours, *ours.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    if process.name().startswith("sshd"):
                        process.kill()
            self._process.wait()
            self._process = None

    @property
    def settings(self) -> dict[str, object]:
        return {
            "hosts": [self.address],
            "key_file": str(self.key),
            "known_hosts": str(self.known_hosts),
            "config_file": "/dev/null",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same for a store, which has only the environment to learn it from."""
        return {
            "DRILLYARD_SSH_KEY_FILE": str(self.key),
            "DRILLYARD_SSH_KNOWN_HOSTS": str(self.known_hosts),
            "DRILLYARD_SSH_CONFIG_FILE": "/dev/null",
        }
