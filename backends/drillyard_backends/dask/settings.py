"""Settings of the backend ``dask``, and the rules for addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from drillyard.documents.json_types import JsonObject
from drillyard_backends.dask.client import Security

ADDRESS_WORDS = "tls://HOST:PORT, or tcp://HOST:PORT within a private network"
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
_EVERYWHERE = {"0.0.0.0", "::", ""}


class DaskConfig(BaseSettings):
    """Settings of the backend ``dask``; in the environment: ``DRILLYARD_DASK_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="DRILLYARD_DASK_", extra="forbid")

    address: str | None = Field(
        None,
        description=f"Scheduler of a cluster to join: {ADDRESS_WORDS}. Default: start a "
        "cluster on this machine and end it with the lease.",
    )
    cluster: str | None = Field(
        None,
        description="A cluster class to start, as module:Class (dask_jobqueue:SLURMCluster, "
        "dask_kubernetes.operator:KubeCluster, …); it is scaled to resources.workers.",
    )
    args: JsonObject = Field(default_factory=dict, description="Arguments of the cluster class.")
    tls_ca_file: Path | None = Field(
        None, description="Certificate of the authority that signed both sides' certificates."
    )
    tls_cert: Path | None = Field(None, description="Our certificate.")
    tls_key: Path | None = Field(None, description="Key of our certificate.")
    connect_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Seconds to wait for a scheduler that does not answer.",
    )
    no_workers_timeout_s: float = Field(
        60.0,
        gt=0,
        le=86400,
        description="Seconds without an answer of the scheduler, or without "
        "any worker, after which the lease is given up. Raise it if your cluster starts slowly.",
    )
    runtime: Path | None = Field(
        None,
        description="Folder for logs and scratch files of clusters that drillyard starts here; "
        "default: a folder of yours under the system's temporary folder.",
    )
    stop_grace_s: float = Field(
        60.0,
        ge=0,
        le=600,
        description="Most seconds that a cluster gets to end at teardown. Tickets flush within "
        "eight of them, a worker that does not answer takes up to 27, and the jobs or pods of a "
        "cluster class end after that.",
    )

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            host = split(value)[1]
            if host in _EVERYWHERE:
                raise ValueError(
                    "servers listen on 0.0.0.0 but cannot be reached by it; "
                    "name the scheduler's own address"
                )
            if is_address(host):
                refuse_public(value)
        return value

    @field_validator("cluster")
    @classmethod
    def _cluster(cls, value: str | None) -> str | None:
        if value is not None and not _CLASS.match(value):
            raise ValueError("a cluster class is written module:Class")
        return value

    @model_validator(mode="after")
    def _together(self) -> DaskConfig:
        if self.address is not None and self.cluster is not None:
            raise ValueError("address joins a cluster and cluster starts one: give one of them")
        if self.args and self.cluster is None:
            raise ValueError("args needs cluster: they are the arguments of the cluster class")
        files = {
            "tls_ca_file": self.tls_ca_file,
            "tls_cert": self.tls_cert,
            "tls_key": self.tls_key,
        }
        missing = [name for name, path in files.items() if path is None]
        if 0 < len(missing) < len(files):
            raise ValueError(f"TLS needs all three files: {', '.join(missing)} not given")
        if self.address is not None and self.address.startswith("tls://") and missing:
            raise ValueError("tls:// needs tls_ca_file, tls_cert and tls_key")
        for name, path in files.items():
            if path is not None and not path.expanduser().is_file():
                raise ValueError(f"{name}: no file {path}")
        return self

    @property
    def security(self) -> Security:
        """Returns the arguments of ``distributed.Security`` for the client; empty without TLS."""
        if self.tls_ca_file is None or self.tls_cert is None or self.tls_key is None:
            return {}
        return {
            "require_encryption": True,
            "tls_ca_file": str(self.tls_ca_file.expanduser().resolve()),
            "tls_client_cert": str(self.tls_cert.expanduser().resolve()),
            "tls_client_key": str(self.tls_key.expanduser().resolve()),
        }


def split(address: str) -> tuple[Literal["tcp", "tls"], str, int]:
    """Returns protocol, host and port of a scheduler's address.

    Raises:
        ValueError: It is not an address, or its protocol is not supported.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or parts.path or parts.port is None:
        raise ValueError(f"an address is {ADDRESS_WORDS}")
    return ("tls" if parts.scheme == "tls" else "tcp"), parts.hostname or "", parts.port


def is_address(host: str) -> bool:
    """Returns True for an IP address, and False for a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def refuse_public(address: str) -> None:
    """Refuses plain TCP outside private networks: whoever reaches a scheduler can run any code.

    Args:
        address: Address of a scheduler; its host name is looked up.

    Raises:
        ValueError: It is plain TCP to an address that is not private.
    """
    protocol, host, port = split(address)
    if protocol == "tls":
        return
    try:
        hosts = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return  # the name is unknown; connecting reports it
    public = sorted(
        ip for ip in map(str, hosts) if not ipaddress.ip_address(ip.partition("%")[0]).is_private
    )
    if public:
        raise ValueError(
            f"tcp:// without TLS to {public[0]}, which is not in a private network: whoever "
            "listens on the way could run any code; use tls://"
        )
