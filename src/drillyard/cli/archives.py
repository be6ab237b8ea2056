"""``drillyard delete``, ``archive`` and ``restore``: whole experiments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

if TYPE_CHECKING:
    from drillyard.archives import Contents

NameToEnd = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the experiment, or its location."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")
]


def delete(
    name: NameToEnd,
    store: StoreOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete an experiment from its store, after showing what would be deleted.

    The command refuses while a driver, a machine or a run may be alive. Data in MLflow stays.

    Example: drillyard delete cstr-ppo --dry-run
    """
    from drillyard import archives

    mailbox = archives.open_for_deletion(name, store)
    archives.must_be_idle(mailbox, "delete")
    contents = archives.contents(mailbox)
    if not as_json:
        _show(contents, mailbox.experiment)
    if dry_run:
        _done(contents, as_json, deleted=False)
        return
    if not _confirmed(f"Delete {contents.place}?", yes):
        typer.echo("nothing was deleted", err=True)
        return
    archives.delete(mailbox, on_progress=_progress)
    _done(contents, as_json, deleted=True)


def _show(contents: Contents, experiment: str) -> None:
    from drillyard.system.terminal import print_grid

    print_grid(contents.grid(experiment))


def _confirmed(question: str, yes: bool) -> bool:
    """Whether the user agrees.

    Raises:
        ConfigError: There is no terminal to ask on.
    """
    from drillyard.errors import misused

    if yes:
        return True
    if not sys.stdin.isatty():
        raise misused(
            "nothing was deleted: this needs your agreement, and there is no terminal to ask on",
            hint="add --yes",
        )
    return typer.confirm(question)


def _progress(done: int, total: int) -> None:
    typer.echo(f"deleted {done:,} of {total:,} objects", err=True)


def _done(contents: Contents, as_json: bool, *, deleted: bool) -> None:
    if as_json:
        objects, size = len(contents.objects), contents.size
        print_json({"place": contents.place, "objects": objects, "size": size, "deleted": deleted})
    elif deleted:
        typer.echo(f"deleted {contents.place}; data in its trackers stays (MLflow, W&B, CSV)")


def archive(
    name: NameToEnd,
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="File to write; default: NAME.drillyard."),
    ] = None,
    and_delete: Annotated[
        bool, typer.Option("--delete", help="Delete the experiment once the file is verified.")
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write an experiment into one file, after showing its contents; `restore` reads it back.

    Example: drillyard archive cstr-ppo --out cstr-ppo.drillyard --delete
    """
    from drillyard import archives
    from drillyard.archives.contents import readable
    from drillyard.runs.locate import open_mailbox

    mailbox = open_mailbox(name, store)
    file = out or Path(f"{mailbox.experiment}.drillyard")
    archives.must_be_idle(mailbox, "archive")
    contents = archives.contents(mailbox)
    if not as_json:
        _show(contents, mailbox.experiment)
    if dry_run:
        _done(contents, as_json, deleted=False)
        return
    agreed = and_delete and _confirmed(f"Archive and then delete {contents.place}?", yes)
    if and_delete and not agreed:
        typer.echo("nothing was written and nothing was deleted", err=True)
        return
    archives.write_archive(mailbox, file)
    if agreed:
        archives.delete(mailbox, on_progress=_progress)
    size = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "size": size, "place": contents.place, "deleted": agreed})
        return
    typer.echo(f"{file} ({readable(size)})" + (f"; deleted {contents.place}" if agreed else ""))


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that `archive` wrote.")],
    store: StoreOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read an archived experiment back into a store; every object is verified first.

    Example: drillyard restore cstr-ppo.drillyard --store gs://bucket/runs
    """
    from drillyard import archives
    from drillyard.runs.locate import store_url

    listed = archives.restore(file, store, dry_run=dry_run)
    place = f"{store_url(store).rstrip('/')}/{listed.experiment}"
    if as_json:
        print_json({"place": place, "objects": len(listed.objects), "restored": not dry_run})
    else:
        done = "would restore" if dry_run else "restored"
        typer.echo(f"{done} {place}: {len(listed.objects):,} objects")
