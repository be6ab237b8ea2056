"""``drillyard prove gcp`` and ``azure``: the first thing to run in a new account."""

from __future__ import annotations

from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli import closed_output
from drillyard.cli.common import JsonOption
from drillyard.errors import DrillyardError
from drillyard.system.interrupts import interrupted_by
from drillyard_backends.prove.show import Show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drillyard.documents.json_types import JsonObject
    from drillyard.findings import Finding
    from drillyard_backends.prove.cost import Price
    from drillyard_backends.prove.probes import Claim, Observation, Probe, Prover, S
    from drillyard_backends.prove.record import ProofRecord
    from drillyard_backends.prove.runner import Report

FAILED, LEFT = 1, 4
"""Exit codes: an assumption does not hold; something may be left."""
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
    prove = typer.Typer(
        no_args_is_help=True,
        help="Test in your own account what drillyard assumes about a cloud, at a stated cost.",
    )
    prove.command("gcp")(gcp)
    prove.command("azure")(azure)
    app.add_typer(prove, name="prove")


def gcp(
    max_cost: CostOption = 2.0,
    dry_run: DryRunOption = False,
    record: RecordOption = None,
    yes: YesOption = False,
    block: BlockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test in your project what drillyard assumes about Google Cloud; nothing is left behind.

    Exits with code 1 if an assumption does not hold, 2 if the account cannot rent yet, and 4 if
    something may be left.
    """
    from drillyard_backends.gcp.prove import GcpProver

    prover = GcpProver(f"gcp/{block}" if block else "gcp")
    _prove(prover, max_cost, dry_run, record, yes, as_json)


def azure(
    max_cost: CostOption = 2.0,
    dry_run: DryRunOption = False,
    record: RecordOption = None,
    yes: YesOption = False,
    block: BlockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test in your workspace what drillyard assumes about Azure ML; nothing is left behind.

    Exits with code 1 if an assumption does not hold, 2 if the account cannot rent yet, and 4 if
    something may be left.
    """
    from drillyard_backends.azure.prove import AzureProver

    prover = AzureProver(f"azure/{block}" if block else "azure")
    _prove(prover, max_cost, dry_run, record, yes, as_json)


def _prove(
    prover: Prover[S],
    max_cost: float,
    dry_run: bool,
    path: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    from datetime import UTC, datetime

    from drillyard.system.home import local_home
    from drillyard.system.output_files import check_file
    from drillyard_backends.prove import record
    from drillyard_backends.prove.runner import Proof

    if path is not None:
        check_file(path, "--record")
    now = datetime.now(UTC)
    default = local_home() / "proofs" / f"{prover.kind}-{now:%Y%m%dT%H%M%SZ}.json"
    proof = Proof(prover, max_cost, Printed(yes, quiet=as_json))
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
        found = record.record_of(prover.kind, f"{now:%Y-%m-%d}", seen, private)
        if seen:
            record.write(found, path or default)
    if as_json:
        from drillyard.cli.common import print_json

        with closed_output.ignored():
            print_json(as_dict(report, found, dry_run))
    else:
        with closed_output.ignored():
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
    if any(one.claim.matters for one in report.of(Verdict.FAILS)):
        raise typer.Exit(FAILED)


def as_dict(report: Report, found: ProofRecord, dry_run: bool) -> JsonObject:
    """Returns the report as JSON.

    What was seen does not name the account. The findings do: their fixes are commands.
    """
    from drillyard.cli.common import finding_json

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
                "fact": one.claim.fact,
                "verdict": seen.verdict,
                "evidence": seen.evidence,
                "matters": one.claim.matters,
                "otherwise": one.claim.otherwise,
            }
            for seen, one in zip(found.seen, report.observations, strict=True)
        ],
        "physics": found.physics,
    }


class Printed(Show):
    """Prints what a proof does, and asks.

    Args:
        yes: Do not ask.
        quiet: Print nothing.
    """

    def __init__(self, yes: bool, *, quiet: bool) -> None:
        self._yes, self._quiet = yes, quiet

    def line(self, text: str) -> None:
        """See ``Show``."""
        from drillyard.system.redaction import redact

        if not self._quiet:
            closed_output.tell(redact(text, assignments=False))

    def begins(self, probe: Probe[S]) -> None:
        """See ``Show``."""
        self.line(f"{probe.name} ...")

    def saw(self, observation: Observation) -> None:
        """See ``Show``."""
        claim, verdict = observation.claim, str(observation.verdict)
        self.line(f"  {claim.id:<5} {verdict}: {claim.fact} ({observation.evidence})")
        if verdict == "does not hold":
            self.line(f"        what it means: {claim.otherwise}")

    def untested(self, claims: Sequence[Claim], why: str) -> None:
        """See ``Show``."""
        if claims:
            self.line(f"not tested, because {why}: {', '.join(claim.id for claim in claims)}")

    def finds(self, findings: Sequence[Finding]) -> None:
        """See ``Show``. Errors are printed at the end."""
        from drillyard.findings import Severity

        for each in findings:
            if each.severity is Severity.WARNING:
                self.line(f"warning: {each.subject}: {each.message}")
                if each.fix:
                    self.line(f"  fix: {each.fix}")

    def costs(self, prover: Prover[S], price: Price) -> None:
        """See ``Show``."""
        self.line(f"costs at most, by the price list of {price.prices_of}:")
        for probe in prover.probes:
            bound = price.bounds[probe.name]
            does = f"creates {probe.creates}" if probe.creates else "reads"
            if probe.paid and not probe.creates:
                does = "watches"
            self.line(f"  {bound:7.3f} {price.currency}  {probe.name}: {does}")
        self.line(
            f"  {price.total:7.3f} {price.currency}  in all, with the end and requests; no "
            f"machine lives longer than {price.life_s / 60:.0f} minutes"
        )
        for kept in prover.stays:
            self.line(f"  stays: {kept}")

    def confirm(self, price: Price) -> None:
        """See ``Show``."""
        from drillyard.cli.common import confirm

        confirm(f"Create it, for at most {price.total:.2f} {price.currency}?", self._yes)


def _tell(report: Report) -> None:
    from drillyard_backends.prove.probes import Verdict

    holds, fails, untested = (len(report.of(verdict)) for verdict in Verdict)
    typer.echo(f"\nassumptions: {holds} hold, {fails} do not hold, {untested} could not be tested")
    for one in report.of(Verdict.FAILS):
        note = "" if one.claim.matters else " (drillyard works either way)"
        typer.echo(f"  {one.claim.id} does not hold{note}: {one.claim.fact}")
    if report.ended:
        typer.echo("nothing is left: the listing of the provider confirms it")
