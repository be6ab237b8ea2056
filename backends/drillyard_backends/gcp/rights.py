"""Which APIs and rights are needed, which are missing, and the commands that grant them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard_backends.gcp.read_only_client import Answer, Reader

if TYPE_CHECKING:
    from drillyard_backends.gcp.settings import GcpConfig

APIS = ("compute.googleapis.com", "storage.googleapis.com")
LOOKING_APIS = (
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "serviceusage.googleapis.com",
)
"""Only ``plan`` and ``doctor`` ask these."""

DELETING = (
    "compute.instanceGroupManagers.delete",
    "compute.instanceGroupManagers.list",
    "compute.instanceGroups.delete",
    "compute.instanceTemplates.delete",
    "compute.instances.delete",
    "compute.instances.list",
)
"""Without these nothing is created: what could not be deleted, or not be found, would leak."""
_MORE = {
    "compute.acceleratorTypes": "get list",
    "compute.disks": "create setLabels",
    "compute.globalOperations": "get",
    "compute.images": "get getFromFamily useReadOnly",
    "compute.instanceGroupManagers": "create get update use",
    "compute.instanceGroups": "create get use",
    "compute.instanceTemplates": "create get list useReadOnly",
    "compute.instances": "create get getSerialPortOutput setLabels setMetadata "
    "setServiceAccount setTags simulateMaintenanceEvent",
    "compute.machineTypes": "get list",
    "compute.networks": "get use",
    "compute.projects": "get",
    "compute.regionOperations": "get",
    "compute.regions": "get",
    "compute.subnetworks": "get use",
    "compute.zoneOperations": "get",
    "compute.zones": "get",
    "iam.serviceAccounts": "get",
    "resourcemanager.projects": "get",
    "serviceusage.services": "get use",
}
"""Kind of resource to what else is done with it."""
DRIVER = tuple(
    sorted((*DELETING, *(f"{kind}.{verb}" for kind in _MORE for verb in _MORE[kind].split())))
)
"""Permissions of the user of ``drillyard`` in the project (``deployments/gcp/role.yaml``)."""
MACHINE = ("compute.instanceGroupManagers.get", "compute.instances.delete")
"""Permissions of the machines to delete themselves (``deployments/gcp/machine-role.yaml``)."""
BUCKET = (
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
)
_PLAIN = "--condition=None"
"""gcloud refuses a grant that does not mention a condition if the policy has one elsewhere."""
ROLE, MACHINE_ROLE = "drillyardDriver", "drillyardMachine"


def machine_condition(group_prefix: str) -> str:
    """Returns the IAM condition for the machines' role.

    Permissions on machines hold for names with this prefix alone. Groups have no name for
    conditions, so ``compute.instanceGroupManagers.get`` must not depend on one. Source:
    https://cloud.google.com/iam/docs/conditions-resource-attributes

    Args:
        group_prefix: Prefix of the names of groups and machines.
    """
    return (
        'resource.type != "compute.googleapis.com/Instance" || '
        f'resource.name.extract("/instances/{{name}}").startsWith("{group_prefix}-")'
    )


def grant_role(
    name: str,
    file: str,
    wanted: Sequence[str],
    project_id: str,
    member: str,
    condition: str | None = None,
) -> str:
    """The command that makes a role, or brings an older one up to date, and grants it.

    Args:
        name: Name of the role.
        file: ``role.yaml`` or ``machine-role.yaml``; without a checkout its rights are spelt out.
        wanted: The rights in it.
        project_id: Where.
        member: To whom, as IAM writes it.
        condition: IAM condition of the grant; None for none.
    """
    path = Path(__file__).parents[3] / "deployments" / "gcp" / file
    content = f"--file={path}" if path.is_file() else f"--permissions={','.join(wanted)}"
    role = f"{name} --project={project_id} {content}"
    return (
        f"{{ gcloud iam roles update {role} --quiet || gcloud iam roles create {role}; }} && "
        f"gcloud projects add-iam-policy-binding {project_id} --member={member} "
        f"--role=projects/{project_id}/roles/{name} "
        + (f"--condition='title=drillyard,expression={condition}'" if condition else _PLAIN)
    )


def apis(reader: Reader) -> Iterator[Finding]:
    """APIs that are not enabled."""
    answer = reader.services([*APIS, *LOOKING_APIS])
    if not answer.good:
        yield _unasked("apis", "which APIs are enabled", answer, reader, LOOKING_APIS[2])
        return
    off = [
        str(item.get("name", "")).rpartition("/")[2]
        for item in answer.body.get("services", [])
        if item.get("state") != "ENABLED"
    ]
    needed = [name for name in off if name in APIS]
    if needed:
        yield problem(
            "apis",
            f"not enabled in {reader.project}: {', '.join(needed)}",
            f"gcloud services enable {' '.join(off)} --project={reader.project}",
        )
    elif off:
        yield warning(
            "apis",
            f"not enabled in {reader.project}, so that less can be checked: {', '.join(off)}",
            f"gcloud services enable {' '.join(off)} --project={reader.project}",
        )
    else:
        yield passed("apis", f"enabled in {reader.project}")


def project(reader: Reader, config: GcpConfig, *, new_bucket: bool) -> Iterator[Finding]:
    """Rights in the project that are missing, in one list.

    Args:
        reader: Sends the requests.
        config: A public address, or a new bucket, needs one more permission.
        new_bucket: True if the bucket will be created.
    """
    needed = list(DRIVER)
    if config.public_ip:
        needed.append("compute.subnetworks.useExternalIp")
    if new_bucket:
        needed.append("storage.buckets.create")
    answer = reader.project_rights(needed)
    if not answer.good:
        yield _unasked(
            "rights",
            f"which rights there are in project {reader.project!r}",
            answer,
            reader,
            LOOKING_APIS[0],
            Severity.ERROR,
        )
        return
    missing = lacking(needed, answer)
    if not missing:
        yield passed("rights", f"all {len(needed)} in project {reader.project}")
        return
    fatal = [name for name in missing if name in DELETING]
    because = "; nothing is created that could not be found and deleted again" if fatal else ""
    yield problem(
        "rights",
        f"missing in project {reader.project}: {', '.join(missing)}{because}",
        grant_role(ROLE, "role.yaml", DRIVER, reader.project, reader.member)
        + (
            f" && gcloud projects add-iam-policy-binding {reader.project} --member="
            f"{reader.member} --role=roles/storage.admin {_PLAIN}"
            if "storage.buckets.create" in missing
            else ""
        ),
    )


def account(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    """Checks whether the machines' identity is there and may be given to machines."""
    email = config.service_account
    grant = (
        f"gcloud iam service-accounts add-iam-policy-binding {email} "
        f"--member={reader.member} --role=roles/iam.serviceAccountUser"
    )
    answer = reader.account(email)
    if answer.status == 404:
        name = email.partition("@")[0]
        yield problem(
            "service_account",
            f"there is no service account {email}",
            f"gcloud iam service-accounts create {name} --project={reader.project} && "
            + machine_grants(config),
        )
        return
    if answer.good and answer.body.get("disabled"):
        yield problem(
            "service_account",
            f"{email} is disabled",
            f"gcloud iam service-accounts enable {email}",
        )
        return
    permissions = reader.account_rights(email, ["iam.serviceAccounts.actAs"])
    if not permissions.good:
        yield _unasked(
            "service_account",
            f"whether {email} may be used",
            permissions,
            reader,
            LOOKING_APIS[1],
            Severity.ERROR,
            grant,
        )
    elif lacking(["iam.serviceAccounts.actAs"], permissions):
        yield problem(
            "service_account",
            f"iam.serviceAccounts.actAs is missing on {email}: machines cannot be given it",
            grant,
        )
    else:
        yield passed(
            "service_account",
            f"{email} may be given to machines; its own rights ({MACHINE_ROLE}, and objects of "
            "the bucket) cannot be asked for from here",
        )


def machine(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    """Checks the machines' own role in the project, where Google shows its policy."""
    if config.repair:
        yield warning(
            "repair",
            "with repair: true a group makes a machine again that deletes itself, so machines "
            "need compute.instanceGroupManagers.update, which holds for all groups of the project",
            f"leave repair out; or gcloud iam roles update {MACHINE_ROLE} --project="
            f"{config.project} --add-permissions=compute.instanceGroupManagers.update",
        )
    answer = reader.project_policy()
    if not answer.good:
        return
    member = f"serviceAccount:{config.service_account}"
    ours = f"projects/{config.project}/roles/{MACHINE_ROLE}"
    bindings = [b for b in answer.body.get("bindings", []) if member in b.get("members", [])]
    if not bindings:
        yield warning(
            "service_account",
            f"{config.project} gives {config.service_account} no role: unless a group does, its "
            "machines cannot delete themselves",
            machine_grants(config),
        )
    elif any(b.get("role") == ours and not b.get("condition") for b in bindings):
        yield warning(
            "service_account",
            f"{MACHINE_ROLE} has no condition: code on a machine can delete every machine of "
            f"{config.project}",
            f"{machine_grants(config)} && gcloud projects remove-iam-policy-binding "
            f"{config.project} --member={member} --role={ours} {_PLAIN}",
        )


def machine_grants(config: GcpConfig) -> str:
    """The command that lets machines delete themselves, and no machine of another prefix."""
    member = f"serviceAccount:{config.service_account}"
    condition = machine_condition(config.group_prefix)
    return grant_role(
        MACHINE_ROLE, "machine-role.yaml", MACHINE, config.project, member, condition
    )


def lacking(wanted: Sequence[str], answer: Answer) -> list[str]:
    """Returns the wanted permissions that an answer does not have."""
    has = set(answer.body.get("permissions", []))
    return [name for name in wanted if name not in has]


def _unasked(
    subject: str,
    what: str,
    answer: Answer,
    reader: Reader,
    api: str,
    severity: Severity = Severity.WARNING,
    fix: str | None = None,
) -> Finding:
    """Returns the finding for a question that Google did not answer."""
    enable = f"gcloud services enable {api} --project={reader.project}"
    if answer.api_off:
        return Finding(
            severity, subject, f"{api} is not enabled, so it is not known {what}", enable
        )
    who = reader.member.partition(":")[2].strip('"')
    who = "your gcloud login" if who.startswith("$(") else who
    return Finding(
        severity,
        subject,
        f"Google does not tell {who} {what}: {answer.message}",
        fix
        or f"is {reader.project!r} the right project, and {who} the right identity? "
        "gcloud auth application-default login; gcloud projects list",
    )
