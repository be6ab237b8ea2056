"""``drillyard prove``: the first thing to run in a new account, and with a new experiment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drillyard.cli.arguments import FREE, Arguments, with_arguments
from drillyard.cli.common import JsonOption, finding_json, print_json
from drillyard.errors import DrillyardError, misused
from drillyard.system import closed_output
from drillyard.system.interrupts import interrupted_by
from drillyard_backends.prove.show import Show

if TYPE_CHECKING:
    from collections.abc import Callable

    from drillyard.documents.json_types import JsonObject
    from drillyard_backends.prove.probes import Prover, S
    from drillyard_backends.prove.record import ProofRecord
    from drillyard_backends.prove.runner import Report

FAILED = 1
"""Exit code: an assumption does not hold."""
KINDS = ("gcp", "azure")
_HELP = """Test in your own account what drillyard assumes about a cloud, at a stated cost.

With an experiment's file, try on one machine what that experiment will use: its image or
container, its `requirements:` and its GPU. Nothing is left behind.

Exits with code 1 if an assumption does not hold, 2 if the account cannot rent yet, and 4 if
something may be left."""
WhatArgument = Annotated[
    str, typer.Argument(metavar="gcp|azure|FILE", help="A cloud, or an experiment's file.")
]
CostOption = Annotated[
    float,
    typer.Option(
        "--max-cost",
        metavar="AMOUNT",
        help="Maximum cost, in the currency of the price list.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only read, and show what would be created.")
]
RecordOption = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FILE",
        help="File for the record, which names no account; default: one in ~/.drillyard/proofs.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before costs arise.")]
BlockOption = Annotated[
    str | None,
    typer.Option("--block", metavar="NAME", help="Use the settings of this Prefect block."),
]


def register(app: typer.Typer) -> None:
    """Join the command line.

    Args:
        app: The application.
    """
    app.command("prove", context_settings=FREE, help=_HELP)(prove_command)


@with_arguments("name")
def prove_command(
    what: WhatArgument,
    arguments: Arguments,
    max_cost: CostOption = 2.0,
    dry_run: DryRunOption = False,
    record: RecordOption = None,
    yes: YesOption = False,
    block: BlockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Proves; see ``_HELP``."""
    prover = (
        _of_kind(what, arguments, block) if what in KINDS else _of_file(what, arguments, block)
    )
    _prove(prover, max_cost, dry_run, record, yes, as_json)


def _of_kind(kind: str, arguments: Arguments, block: str | None) -> Prover[Any]:
    arguments.no_values()
    for word in arguments.words():
        raise misused("needs an experiment's file", word, hint=f"drillyard prove FILE {word} …")
    return _prover(kind)(f"{kind}/{block}" if block else kind)


def _of_file(file: str, arguments: Arguments, block: str | None) -> Prover[Any]:
    from drillyard.backend.settings.experiment import settings_of
    from drillyard.leases.orders import order_of
    from drillyard.spec.stages import is_staged

    spec = arguments.load(Path(file)).spec
    kind = spec.backend.partition("/")[0]
    if is_staged(spec):
        raise misused(
            "its stages may use different machines",
            "FILE",
            file,
            "an experiment without stages",
            "prove one of its stages with a file of its own",
        )
    if kind not in KINDS or spec.elsewhere:
        raise misused(
            f"its backend is {spec.where}, and a proof needs one cloud",
            "FILE",
            file,
            "an experiment on gcp or azure",
            "--on gcp or --on azure",
        )
    if block is not None:
        raise misused(
            "is for a proof without a file", "--block", block, hint=f"--on {kind}/{block}"
        )
    order = order_of(spec, lease="dy-0000000000", store_url="", runs=1, settings={})
    return _prover(kind)(spec.backend, settings_of(spec, kind), uses=order)


def _prover(kind: str) -> Callable[..., Prover[Any]]:
    from drillyard_backends.azure.prove import AzureProver
    from drillyard_backends.gcp.prove import GcpProver

    return GcpProver if kind == "gcp" else AzureProver


def _prove(
    prover: Prover[S],
    max_cost: float,
    dry_run: bool,
    path: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    from drillyard.system.home import local_home
    from drillyard.system.output_files import check_file
    from drillyard_backends.prove import record
    from drillyard_backends.prove.runner import Proof

    if path is not None:
        check_file(path, "--record")
    now = datetime.now(UTC)
    default = local_home() / "proofs" / f"{prover.kind}-{now:%Y%m%dT%H%M%SZ}.json"
    proof = Proof(prover, max_cost, Show(yes, quiet=as_json))
    try:
        with interrupted_by(SIGTERM):
            report = proof.run(dry_run=dry_run)
    except KeyboardInterrupt:
        if proof.report.created and not proof.report.ended:
            typer.echo(
                "the lease may be alive: the same command ends it, and so does `drillyard reap`",
                err=True,
            )
        raise
    finally:
        # Also what a proof saw that was interrupted; it names no account.
        seen = proof.report.observations
        private = prover.private() if seen else {}
        software = proof.report.software
        proof_record = record.record_of(prover.kind, f"{now:%Y-%m-%d}", seen, private, software)
        if seen:
            record.write(proof_record, path or default)
    with closed_output.ignored():
        if as_json:
            print_json(as_dict(report, proof_record, dry_run))
        else:
            _tell(report)
            typer.echo(f"record: {path or default}")
    try:
        _leave(report)
    except DrillyardError as error:
        if as_json:  # the object that was printed contains it
            raise typer.Exit(int(error.exit_code)) from error
        raise


def _leave(report: Report) -> None:
    """Raises what the outcome is for a caller."""
    from drillyard.checks.refusal import refuse
    from drillyard_backends.prove.probes import Verdict

    if report.unconfirmed is not None:
        raise report.unconfirmed
    if report.refusal is not None:
        raise report.refusal
    if not report.created:
        refuse(report.findings)
    if any(failed.claim.matters for failed in report.of(Verdict.FAILS)):
        raise typer.Exit(FAILED)


def as_dict(report: Report, found: ProofRecord, dry_run: bool) -> JsonObject:
    """Returns the report as JSON.

    What was seen does not name the account. The findings do: their fixes are commands.
    """
    return {
        "schema_version": 1,
        "kind": found.kind,
        "dry_run": dry_run,
        "created": report.created,
        "finished": [*report.finished],
        "left": report.unconfirmed is not None,
        "findings": [{**finding_json(each)} for each in report.findings],
        "refusal": None if report.refusal is None else str(report.refusal),
        "cost_at_most": round(report.price.total, 4),
        "currency": report.price.currency,
        "seen": [
            {
                "id": seen.id,
                "fact": observation.claim.fact,
                "verdict": seen.verdict,
                "evidence": seen.evidence,
                "matters": observation.claim.matters,
                "otherwise": observation.claim.otherwise,
            }
            for seen, observation in zip(found.seen, report.observations, strict=True)
        ],
        "physics": found.physics,
        "software": {**found.software},
    }


def _tell(report: Report) -> None:
    from drillyard_backends.prove.probes import Verdict

    holds, fails, untested = (len(report.of(verdict)) for verdict in Verdict)
    typer.echo(f"\nassumptions: {holds} hold, {fails} do not hold, {untested} could not be tested")
    for failed in report.of(Verdict.FAILS):
        note = "" if failed.claim.matters else " (drillyard works either way)"
        typer.echo(f"  {failed.claim.id} does not hold{note}: {failed.claim.fact}")
    if report.ended:
        typer.echo("nothing is left: the listing of the provider confirms it")
