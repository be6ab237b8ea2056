"""An invitation in the mailbox: workers without a ticket read it, and start hosts by themselves.

The attempt that trains writes ``hosts.json`` into its own folder, and deletes it at its end.
Workers follow the attempt that has the ticket: the invitation of an attempt that has ended, or was
replaced, counts no longer, whether or not it was deleted. Its token opens nothing by then, because
each training makes a new one. Who can read the mailbox can read the token.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import time

import psutil

from drillyard.errors import InfrastructureError
from drillyard.findings import Finding, passed
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase, Record
from drillyard.simulators.hosts.certificates import Invitation, with_port
from drillyard.simulators.hosts.providers import EVERYWHERE, Hosting
from drillyard.system.redaction import register_secret
from drillyard.system.version import VERSION

LOOPBACK = "127.0.0.1"
PORT = "copies_port"
"""Setting of a backend: the port at which learners listen for hosts; None: any free one."""
log = logging.getLogger(__name__)


class PostedInvitation(Record):
    """``runs/<run>/attempts/train-<n>/hosts.json``: a training wants hosts of copies."""

    addresses: list[str]
    """``host:port`` of the learner: of each of its networks, in the order in which to try."""
    certificate: str
    token: str
    number: int
    """Number of hosts that it waits for. More may join."""
    version: str = ""
    """Version of drillyard of the learner."""
    written_at: float

    def invitation(self) -> Invitation:
        """What a host is started with."""
        register_secret(self.token)
        first, *others = self.addresses
        return Invitation(first, self.certificate, self.token, tuple(others))


def path_of(run: str, attempt: int) -> str:
    """Path of the invitation in the experiment's folder.

    Args:
        run: Id of the run.
        attempt: Number of the attempt that trains.
    """
    return f"{Mailbox.attempt_path(run, Phase.TRAIN, attempt)}/hosts.json"


def own_addresses() -> list[str]:
    """The addresses of this machine by which others may reach it; IPv4 first, loopback last."""
    usable = []
    stats = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        if name not in stats or not stats[name].isup:
            continue
        for entry in addresses:
            if entry.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            address = ipaddress.ip_address(entry.address.partition("%")[0])
            if not (address.is_loopback or address.is_link_local or address.is_multicast):
                usable.append(address)
    return [*map(str, sorted(usable, key=lambda a: a.version)), LOOPBACK]


def reach(port: int | None) -> Finding:
    """What the network between the machines of a lease must let through.

    Args:
        port: The setting ``copies_port``.
    """
    which = "any TCP port" if port is None else f"TCP port {port}"
    return passed(
        "simulator.copies_on",
        f"every machine must reach the others at {which}: the one that trains listens there for "
        "the hosts of copies",
        None if port is not None else f"set {PORT} to open a single port",
    )


class PostedHosts:
    """Hosts that the other workers of the lease start: the base of providers of pulling backends.

    A backend says in ``addresses`` by which names its machines reach each other. Workers watch and
    replace their hosts by themselves; see ``drillyard.worker.copy_hosts``.

    Args:
        hosting: The training.
    """

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self._mailbox = Mailbox(open_store(hosting.store_url), hosting.experiment)
        self._path = path_of(hosting.run, hosting.attempt)
        self._names: list[str] = []
        self._unwritten: PostedInvitation | None = None

    def addresses(self) -> list[str]:
        """Names or addresses of this machine, in the order in which other machines try them."""
        return own_addresses()

    def identity(self) -> None:
        """Made for this training."""

    def address(self) -> tuple[str, int, str]:
        """Every interface: the token and the certificate decide who may join."""
        self._names = list(dict.fromkeys(self.addresses()))
        port = self._hosting.settings.get(PORT)
        return EVERYWHERE, port if isinstance(port, int) else 0, self._names[0]

    def start(self, invitation: Invitation) -> None:
        """Posts the invitation."""
        port = invitation.place[1]
        self._unwritten = PostedInvitation(
            addresses=[with_port(name, port) for name in self._names],
            certificate=invitation.certificate,
            token=invitation.token,
            number=self._hosting.number,
            version=VERSION,
            written_at=time.time(),
        )
        self.tend(0)

    def tend(self, joined: int) -> None:
        """Posts the invitation again while the store was away. Workers replace what has ended."""
        if self._unwritten is None:
            return
        try:
            self._mailbox.write(self._path, self._unwritten)
            self._unwritten = None
        except InfrastructureError as error:
            log.warning("the invitation of hosts of copies is not written yet: %s", error)

    def close(self) -> None:
        """Takes the invitation back; hosts end when their learner says goodbye."""
        try:
            self._mailbox.store.delete(self._mailbox.key(self._path))
        except InfrastructureError as error:
            log.warning("the invitation of hosts of copies was not deleted: %s", error)
