"""``drillyard simulator-host``: hosts copies of simulators for a training on another machine."""

from __future__ import annotations

from pathlib import Path
from signal import SIGINT
from typing import Annotated

import typer

from drillyard.system.interrupts import interrupted_by

CopiesOption = Annotated[
    int | None,
    typer.Option(
        "--copies",
        min=1,
        max=4096,
        help="Maximum number of copies, such as the number of licences; default: one per core.",
    ),
]
InviteOption = Annotated[
    str | None,
    typer.Option(
        "--invite",
        metavar="HOST:PORT",
        help="On the learner's machine: write an invitation for hosts, with the address at "
        "which they can reach this machine.",
    ),
]


def simulator_host(
    invitation: Annotated[
        Path | None,
        typer.Argument(help="File from the learner's machine, written by --invite."),
    ] = None,
    copies: CopiesOption = None,
    offers: Annotated[
        list[str] | None,
        typer.Option(
            "--offers",
            help="Simulator that may run here, by its `simulator.id`. Repeatable. Default: all "
            "that can be imported.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name in messages; default: the machine's.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the first training; default: wait for more.")
    ] = False,
    wait_s: Annotated[
        float | None,
        typer.Option(
            "--wait-s", min=0.0, help="Seconds to look for a learner; default: until Ctrl-C."
        ),
    ] = None,
    invite: InviteOption = None,
    out: Annotated[
        Path, typer.Option("--out", help="With --invite: folder for the two files.")
    ] = Path("."),
) -> None:
    """Host copies of simulators for a training on another machine, over TLS with a token."""
    from drillyard.errors import misused

    if (invite is None) == (invitation is None):
        raise misused(
            "give either an invitation to join with, or --invite to write one",
            "invitation",
            None if invitation is None else str(invitation),
            allowed="one of the two",
            hint="on the learner's machine: drillyard simulator-host --invite HOST:PORT; then on "
            "each host: drillyard simulator-host hosts-invitation.json",
        )
    if invite is not None:
        _invite(invite, out)
        return
    assert invitation is not None
    _serve(invitation, copies, offers, name, once, wait_s)


def _invite(address: str, out: Path) -> None:
    from drillyard.simulators.hosts.certificates import Identity
    from drillyard.simulators.hosts.providers import LISTENING
    from drillyard.system.files import PRIVATE, write_file

    identity = Identity.new()
    invitation = identity.invitation(address)
    _ = invitation.place  # refuses what is not an address
    out.mkdir(parents=True, exist_ok=True)
    learner, given = out / "hosts-learner.json", out / "hosts-invitation.json"
    write_file(learner, identity.to_json(address), PRIVATE)
    write_file(given, invitation.to_json(), PRIVATE)
    typer.echo(
        f"{learner}: for this machine; set {LISTENING}={learner.resolve()} before you train"
    )
    typer.echo(f"{given}: for the hosts; it contains a token, so send it as you send a password")


def _serve(
    path: Path,
    copies: int | None,
    offers: list[str] | None,
    name: str | None,
    once: bool,
    wait_s: float | None,
) -> None:
    import logging
    import os
    import platform

    from drillyard.simulators.hosts.certificates import Invitation
    from drillyard.simulators.hosts.host import Host, Offer
    from drillyard.system.import_path import importable
    from drillyard.system.redaction import log_to, register_environment

    register_environment()
    log_to(logging.StreamHandler())
    offer = Offer(
        name=name or platform.node(),
        copies=copies or os.cpu_count() or 1,
        simulators=tuple(offers) if offers else None,
    )
    host = Host(Invitation.read(path), offer, wait_s)
    with importable(Path.cwd()), interrupted_by(SIGINT, host.stop):
        host.serve(once)
