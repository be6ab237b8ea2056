"""Translates SSH's errors into drillyard's, each with a hint for the user."""

from __future__ import annotations

import shlex
import socket
from typing import TYPE_CHECKING

from drillyard.errors import DrillyardError, InfrastructureError, SignInRefused, UserError

if TYPE_CHECKING:
    import asyncssh

    from drillyard_backends.ssh.settings import Address, SshConfig


def unverified(
    address: Address, config: SshConfig, key: asyncssh.SSHKey | None, known: bool
) -> UserError:
    """Returns the error for a host whose key is not trusted.

    Args:
        address: The host.
        config: Settings with the file of trusted keys.
        key: The host's key.
        known: True if another key of this host is trusted, so the key has changed.
    """
    place = str(config.known_hosts or "~/.ssh/known_hosts")
    name = address.host if address.port in (None, 22) else f"[{address.host}]:{address.port}"
    fingerprint = key.get_fingerprint() if key is not None else "no readable key"
    if known:
        return UserError(
            f"{address} has another host key than the one in {place}: {fingerprint}. Either the "
            "host was set up anew, or the connection is intercepted",
            hint=f"ask its administrator; if the key is right: ssh-keygen -R {shlex.quote(name)}"
            f"{'' if config.known_hosts is None else ' -f ' + shlex.quote(place)}, then run this "
            "again and accept the new key",
        )
    line = f"{name} {key.export_public_key().decode().split(' #')[0].strip()}" if key else ""
    accept = f"; then accept it: echo {shlex.quote(line)} >> {place}" if key is not None else ""
    return UserError(
        f"the host key of {address} is not in {place}: {fingerprint}",
        hint="compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` "
        f"on the host{accept}",
    )


def translated(error: BaseException, address: Address, config: SshConfig) -> DrillyardError:
    """Returns drillyard's error for an error of asyncssh or of the system."""
    import asyncssh

    if isinstance(error, DrillyardError):
        return error
    if isinstance(error, asyncssh.PermissionDenied):
        refused = f"the key {config.key_file}" if config.key_file else "any of your keys"
        return SignInRefused(
            f"{address} refuses the login: it does not accept {refused} ({error.reason or error})",
            hint="try `ssh " + _ssh_arguments(address) + " true`; set backends.ssh.key_file or "
            "backends.ssh.user, or add your public key to ~/.ssh/authorized_keys there",
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return UserError(
            f"the key file {config.key_file or 'of ~/.ssh'} cannot be used: {error}",
            hint="a key with a passphrase works through ssh-agent: ssh-add FILE",
        )
    if isinstance(error, asyncssh.ConfigParseError):
        return UserError(
            f"the SSH configuration cannot be read: {error}",
            hint="correct ~/.ssh/config, or set backends.ssh.config_file",
        )
    if isinstance(error, socket.gaierror):
        return InfrastructureError(
            f"the host name {address.host!r} is unknown",
            hint="check the spelling and your network, or add the host to ~/.ssh/config",
        )
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return UserError(
            f"no such file: {error.filename}",
            hint="check backends.ssh.key_file and backends.ssh.known_hosts",
        )
    if isinstance(error, TimeoutError):
        return InfrastructureError(
            f"{address} did not answer within {config.connect_timeout_s:g} s",
            hint="check that it is on and reachable from here",
        )
    reason = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    return InfrastructureError(
        f"no connection to {address}: {reason}",
        hint="check that it is on, that its SSH server is running, and that the port is right",
    )


def no_files(error: Exception, address: Address, config: SshConfig) -> InfrastructureError:
    """Returns the error for a host that can be logged in to, but does not answer SFTP.

    Args:
        error: Why SFTP did not start.
        address: The host.
        config: Settings with the time that it had.
    """
    reason = (
        f"no answer within {config.connect_timeout_s:g} s"
        if isinstance(error, TimeoutError)
        else str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    )
    return InfrastructureError(
        f"{address} is reached, but does not answer SFTP: {reason}",
        hint="try `sftp` with the same host; a login script there must print nothing without a "
        "terminal, the SSH server needs its SFTP subsystem, and its disk must answer",
    )


def _ssh_arguments(address: Address) -> str:
    port = f"-p {address.port} " if address.port else ""
    return f"{port}{address.user + '@' if address.user else ''}{address.host}"
