"""The one seam where SSH's errors become ours, each with what the user can do."""

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
    """A host whose key is not among the trusted ones.

    Args:
        address: The host.
        config: Says which file has the trusted keys.
        key: What the host showed.
        known: Another key of this host is trusted: it was changed.
    """
    place = str(config.known_hosts or "~/.ssh/known_hosts")
    name = address.host if address.port in (None, 22) else f"[{address.host}]:{address.port}"
    shown = key.get_fingerprint() if key is not None else "no key that could be read"
    if known:
        return UserError(
            f"{address} shows another host key than the one in {place}: {shown}. Either the host "
            "was set up anew, or somebody stands between",
            hint=f"ask who runs it; if the change is right: ssh-keygen -R {shlex.quote(name)}"
            f"{'' if config.known_hosts is None else ' -f ' + shlex.quote(place)}, then run this "
            "again and accept the new key",
        )
    line = f"{name} {key.export_public_key().decode().split(' #')[0].strip()}" if key else ""
    accept = f"; then accept it: echo {shlex.quote(line)} >> {place}" if key is not None else ""
    return UserError(
        f"the host key of {address} is not in {place}: {shown}",
        hint="compare the fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` "
        f"says on the host{accept}",
    )


def translated(error: BaseException, address: Address, config: SshConfig) -> DrillyardError:
    """The error of the tree for a foreign one."""
    import asyncssh

    if isinstance(error, DrillyardError):
        return error
    if isinstance(error, asyncssh.PermissionDenied):
        tried = f"the key {config.key_file}" if config.key_file else "none of your keys"
        return SignInRefused(
            f"{address} refuses the login: {tried} is accepted ({error.reason or error})"
            if config.key_file
            else f"{address} refuses the login: it accepts {tried} ({error.reason or error})",
            hint="try `ssh " + _words(address) + " true`; set backends.ssh.key_file or "
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
            hint="mend ~/.ssh/config, or set backends.ssh.config_file",
        )
    if isinstance(error, socket.gaierror):
        return InfrastructureError(
            f"no machine of the name {address.host!r} is known",
            hint="look at the spelling, at your network, or name the host in ~/.ssh/config",
        )
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return UserError(
            f"no such file: {error.filename}",
            hint="look at backends.ssh.key_file and backends.ssh.known_hosts",
        )
    if isinstance(error, TimeoutError):
        return InfrastructureError(
            f"{address} did not answer within {config.connect_timeout_s:g} s",
            hint="is it on, and reachable from here?",
        )
    words = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    return InfrastructureError(
        f"no connection to {address}: {words}",
        hint="is it on, is its SSH server running, and is the port right?",
    )


def _words(address: Address) -> str:
    port = f"-p {address.port} " if address.port else ""
    return f"{port}{address.user + '@' if address.user else ''}{address.host}"
