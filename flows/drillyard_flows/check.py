"""The flow ``check``: what ``drillyard check`` finds for a backend and its block.

It reads settings, sign-in, rights, quotas and images where flow runs work, and creates nothing.
"""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact

from drillyard.checks.experiment import check as check_all
from drillyard.checks.refusal import refuse
from drillyard.documents.json_types import JsonObject
from drillyard_flows import form, plain_errors
from drillyard_flows.request import Request, loaded_of
from drillyard_tasks.publisher import artifact_key


@flow(name="check", flow_run_name="check {backend}", retries=0)
def check(backend: str = "local", file: str = form.FILE) -> JsonObject:
    """Checks a backend for one experiment, and rents nothing.

    Args:
        backend: A backend; or with the name of a block: ``gcp/prod``.
        file: Path of an experiment file, or a name from `drillyard list presets`.

    Returns:
        Number of findings by severity. The table artifact has one row for each finding.

    Raises:
        UserError: The experiment cannot run there; names each field, value and fix.
    """
    plain_errors.install()
    request = Request(file=file, backend=backend)
    loaded = loaded_of(request)
    findings = check_all(loaded, store=request.store_url(loaded), offline_ok=True)
    create_table_artifact(
        key=artifact_key("check", backend),
        table=[
            {"": f.severity.value, "what": f.subject, "finding": f.message, "fix": f.fix or ""}
            for f in findings
        ],
        description=f"{loaded.spec.name} on {backend}: can it run?",
    )
    refuse(findings)
    kinds = [finding.severity.value for finding in findings]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
