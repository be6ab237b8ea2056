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
    """Where a host is; what is None is for ``~/.ssh/config`` and SSH's defaults to say."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``[user@]host[:port]``; an IPv6 address in brackets.

        Raises:
            ValueError: It is none.
        """
        found = _ADDRESS.match(text)
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 0 < port < 65536):
            raise ValueError(f"{text!r} is no address of a host; allowed: {ADDRESS_WORDS}")
        return cls(found["v6"] or found["host"], found["user"], port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}{f':{self.port}' if self.port else ''}"

    def same_machine(self, other: Address) -> bool:
        """True when both name one machine in the same words."""
        return (self.host.lower(), self.port or 22) == (other.host.lower(), other.port or 22)


class SshConfig(BaseSettings):
    """Settings of the backend ``ssh``; in the environment: ``DRILLYARD_SSH_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="DRILLYARD_SSH_", extra="forbid")

    hosts: list[str] = Field(
        min_length=1, description=f"The machines, each {ADDRESS_WORDS}; workers are dealt out."
    )
    user: str | None = Field(
        None, description="Login name on hosts that name none; default as `ssh HOST` has it."
    )
    key_file: Path | None = Field(
        None, description="Private key; default: SSH's agent, ~/.ssh/config, ~/.ssh/id_*."
    )
    known_hosts: Path | None = Field(
        None,
        description="Keys of hosts that are trusted; default ~/.ssh/known_hosts. There is "
        "no setting that trusts an unknown one.",
    )
    config_file: Path | None = Field(
        None, description="OpenSSH client configuration; default ~/.ssh/config."
    )
    python: str = Field(
        "python3",
        min_length=1,
        description="The interpreter there that has drillyard, for "
        "example ~/drillyard/bin/python.",
    )
    runtime: str | None = Field(
        None,
        description="Folder there for logs and scratch files of agents; default: one of "
        "the user's under the system's temporary folder.",
    )
    stop_grace_s: float = Field(
        10.0, ge=0, le=600, description="Seconds that running tickets get to flush at teardown."
    )
    connect_timeout_s: float = Field(
        15.0, gt=0, le=300, description="Seconds until a host that does not answer is given up."
    )

    @field_validator("hosts")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        machines = [Address.parse(text) for text in value]
        for number, one in enumerate(machines):
            if any(one.same_machine(other) for other in machines[:number]):
                raise ValueError(f"{value[number]!r} is there twice")
        return value

    def address(self, text: str) -> Address:
        """The address of a host of these settings, with their login name."""
        found = Address.parse(text)
        return found if found.user else Address(found.host, self.user, found.port)
