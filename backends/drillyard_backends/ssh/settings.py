"""Settings of the backend ``ssh``, and addresses of its hosts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.\\-]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?\Z"
)
ADDRESS_WORDS = "[user@]host[:port], or the name of a host in ~/.ssh/config"


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a host. A field that is None comes from ``~/.ssh/config`` or SSH's defaults."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses ``[user@]host[:port]``; an IPv6 address is in brackets.

        Raises:
            ValueError: The text is not an address.
        """
        match = _ADDRESS.match(text)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or (port is not None and not 0 < port < 65536):
            raise ValueError(f"{text!r} is not the address of a host; allowed: {ADDRESS_WORDS}")
        return cls(match["v6"] or match["host"], match["user"], port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}{f':{self.port}' if self.port else ''}"

    def same_machine(self, other: Address) -> bool:
        """Returns True if both addresses have the same host and port."""
        return (self.host.lower(), self.port or 22) == (other.host.lower(), other.port or 22)


class SshConfig(BaseSettings):
    """Settings of the backend ``ssh``; in the environment: ``DRILLYARD_SSH_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="DRILLYARD_SSH_", extra="forbid")

    hosts: list[str] = Field(
        min_length=1, description=f"The machines, each {ADDRESS_WORDS}; they share the workers."
    )
    user: str | None = Field(
        None, description="Login name on hosts without one; the default is that of `ssh HOST`."
    )
    key_file: Path | None = Field(
        None, description="Private key; default: SSH's agent, ~/.ssh/config, ~/.ssh/id_*."
    )
    known_hosts: Path | None = Field(
        None,
        description="File of the trusted host keys; default ~/.ssh/known_hosts. No setting "
        "trusts an unknown key.",
    )
    config_file: Path | None = Field(
        None, description="OpenSSH client configuration; default ~/.ssh/config."
    )
    python: str = Field(
        "python3",
        min_length=1,
        description="Python interpreter on the hosts that has drillyard, for "
        "example ~/drillyard/bin/python.",
    )
    runtime: str | None = Field(
        None,
        description="Folder on the hosts for logs and scratch files of agents; default: a "
        "folder of the user under the system's temporary folder.",
    )
    stop_grace_s: float = Field(
        10.0, ge=0, le=600, description="Seconds that running tickets get to flush at teardown."
    )
    connect_timeout_s: float = Field(
        15.0, gt=0, le=300, description="Seconds to wait for a host that does not answer."
    )

    copies_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on these machines at which a training listens for hosts of copies "
        "(`simulator.copies_on: workers`); default: a free one. Open it between the machines.",
    )

    @field_validator("hosts")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        machines = [Address.parse(text) for text in value]
        for number, machine in enumerate(machines):
            if any(machine.same_machine(other) for other in machines[:number]):
                raise ValueError(f"{value[number]!r} is listed twice")
        return value

    def address(self, text: str) -> Address:
        """Returns the address of a host, with the login name of these settings."""
        address = Address.parse(text)
        return address if address.user else Address(address.host, self.user, address.port)
