"""What machines need around them: the bucket, a way to it, an image; and a clock that is right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.system.durations import duration
from drillyard_backends import drivers
from drillyard_backends.gcp import catalogue, rights
from drillyard_backends.gcp.bucket import FOLDER_ROLE, MACHINE_ROLES
from drillyard_backends.gcp.machine_table import table
from drillyard_backends.gcp.read_only_client import Answer, Reader

if TYPE_CHECKING:
    from drillyard.backend import Order
    from drillyard_backends.gcp.settings import GcpConfig

MOST_SKEW_S = 60.0
"""Google refuses tokens that are signed with a clock that is much further off."""
_REGISTRY = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<name>[^/]+)/"
)
_PUBLIC = ("-cloud", "-release", "-public")
"""Ends of the names of Google's own projects with images that everybody may use."""
_CONTINENTS = {
    "US": ("us-", "northamerica-"),
    "EU": ("europe-",),
    "ASIA": ("asia-",),
    "EUR4": ("europe-north1", "europe-west4"),
    "NAM4": ("us-central1", "us-east1"),
}


def clock(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    """Compare this machine's clock with Google's."""
    skew = reader.skew_s(config.bucket)
    if skew is not None and abs(skew) > MOST_SKEW_S:
        yield problem(
            "clock",
            f"this machine's clock is {duration(abs(skew))} "
            f"{'ahead of' if skew > 0 else 'behind'} Google's: its credentials would not be "
            "accepted",
            "timedatectl set-ntp true, or set the clock by hand",
        )


def bucket_is_there(reader: Reader, name: str) -> bool:
    """False where the bucket must be created."""
    return reader.bucket(name).status != 404


def bucket(reader: Reader, config: GcpConfig, regions: list[str]) -> Iterator[Finding]:
    """Checks whether the mailbox's bucket can be written to, and is near the machines.

    Args:
        reader: Sends the requests.
        config: Names the bucket.
        regions: Regions of the machines.
    """
    name = config.bucket
    answer = reader.bucket(name)
    if answer.status == 404:
        yield passed(
            "bucket", f"gs://{name} does not exist and will be created in {config.bucket_location}"
        )
        return
    objects = (
        f"gcloud storage buckets add-iam-policy-binding gs://{name} --member={reader.member} "
        "--role=roles/storage.objectAdmin && gcloud storage buckets add-iam-policy-binding "
        f"gs://{name} --member={reader.member} --role=roles/storage.legacyBucketReader"
    )
    if not answer.good:
        yield problem(
            "bucket",
            f"gs://{name} exists and cannot be read: {answer.message}",
            f"{objects}; or another name, if it belongs to another project: names are global",
        )
        return
    missing = rights.lacking(rights.BUCKET, reader.bucket_rights(name, rights.BUCKET))
    location = str(answer.body.get("location", "")).lower()
    if missing:
        yield problem("bucket", f"missing on gs://{name}: {', '.join(missing)}", objects)
    else:
        yield _rewritable(name, location, answer.body.get("retentionPolicy") or {})
    yield from _keeping(answer.body, config)
    yield from _machines_rights(reader, config)
    far = [region for region in regions if not _near(location, region)]
    if location and far:
        yield warning(
            "bucket",
            f"gs://{name} is in {location}, machines run in {', '.join(far)}: traffic between "
            "them costs about 0.01 to 0.08 USD a GB and is slower",
            f"zones of {location}, or a bucket in {far[0]}",
        )


def _rewritable(name: str, location: str, policy: Mapping[str, Any]) -> Finding:
    if not policy:
        return passed("bucket", f"gs://{name} in {location} can be written to")
    locked = " and it is locked" if policy.get("isLocked") else ""
    return problem(
        "bucket",
        f"gs://{name} has a retention policy{locked}: a mailbox rewrites and deletes objects",
        "name another bucket"
        if locked
        else f"gcloud storage buckets update gs://{name} --clear-retention-period",
    )


def _keeping(body: Mapping[str, Any], config: GcpConfig) -> Iterator[Finding]:
    """Checks whether a bucket keeps what is written to it, and lets it be overwritten at once."""
    name = config.bucket
    change = f"gcloud storage buckets update gs://{name}"
    rules = (body.get("lifecycle") or {}).get("rule", [])
    for rule in rules:
        if _deletes_ours(rule, config.prefix):
            yield problem(
                "bucket",
                f"gs://{name} deletes objects by a lifecycle rule ({rule.get('condition')}): "
                "results and checkpoints would go",
                f"name another bucket, or {change} --lifecycle-file=FILE without that rule",
            )
    if body.get("defaultEventBasedHold"):
        yield problem(
            "bucket",
            f"gs://{name} holds each new object: none can be overwritten",
            f"{change} --no-default-event-based-hold",
        )
    if (body.get("billing") or {}).get("requesterPays"):
        yield problem(
            "bucket",
            f"gs://{name} is billed to the requester: requests that name no project are refused",
            f"{change} --no-requester-pays",
        )
    if (body.get("ipFilter") or {}).get("mode") == "Enabled":
        yield warning(
            "bucket",
            f"gs://{name} accepts requests from certain networks only",
            f"is the machines' network among them? {change} --clear-ip-filter",
        )
    cold = str(body.get("storageClass", "STANDARD"))
    if cold in ("NEARLINE", "COLDLINE", "ARCHIVE"):
        yield warning(
            "bucket",
            f"gs://{name} is of the class {cold}: each object that is overwritten is billed for "
            "30 days or more",
            f"{change} --default-storage-class=STANDARD",
        )
    kept_s = int((body.get("softDeletePolicy") or {}).get("retentionDurationSeconds") or 0)
    if kept_s:
        yield warning(
            "bucket",
            f"gs://{name} keeps what is overwritten for {kept_s / 86_400:g} days and bills it; "
            "heartbeats are overwritten every few seconds",
            f"{change} --clear-soft-delete",
        )


def _deletes_ours(rule: Mapping[str, Any], prefix: str) -> bool:
    """Returns whether a lifecycle rule may delete live objects below a prefix."""
    when = rule.get("condition") or {}
    if (rule.get("action") or {}).get("type") != "Delete" or when.get("isLive") is False:
        return False
    if any(
        name in when
        for name in ("numNewerVersions", "daysSinceNoncurrentTime", "noncurrentTimeBefore")
    ):
        return False
    heads = when.get("matchesPrefix") or [""]
    return any(head.startswith(prefix) or prefix.startswith(head) for head in heads)


def _machines_rights(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    """Checks the machines' rights on the mailbox and the rest of the bucket, if Google tells."""
    answer = reader.bucket_policy(config.bucket)
    if not answer.good:
        return
    member = f"serviceAccount:{config.service_account}"
    roles = _roles(answer, member)
    whole = bool(roles & {"roles/storage.admin", "roles/storage.legacyBucketOwner"})
    if config.prefix:
        yield from _folder_rights(reader, config, whole or "roles/storage.objectAdmin" in roles)
        return
    missing = [role for role in MACHINE_ROLES if role not in roles]
    if missing and not whole:
        yield warning(
            "bucket",
            f"gs://{config.bucket} itself does not give {config.service_account} "
            f"{' and '.join(missing)}: unless the project or a group does, no machine can work",
            " && ".join(
                f"gcloud storage buckets add-iam-policy-binding gs://{config.bucket} "
                f"--member={member} --role={role}"
                for role in missing
            ),
        )


def _folder_rights(reader: Reader, config: GcpConfig, whole: bool) -> Iterator[Finding]:
    """Checks that the machines have rights on the mailbox's folder, and on no more than that.

    Args:
        reader: Sends the requests.
        config: Names bucket and folder.
        whole: True if the machines may read and write every object of the bucket.
    """
    member = f"serviceAccount:{config.service_account}"
    url = f"gs://{config.bucket}/{config.prefix}"
    grant = (
        f"gcloud storage managed-folders create {url}; gcloud storage managed-folders "
        f"add-iam-policy-binding {url} --member={member} --role={FOLDER_ROLE}"
    )
    if whole:
        yield warning(
            "bucket",
            f"code on a machine can read and write all of gs://{config.bucket}, not only "
            f"{config.prefix}/",
            f"{grant} && gcloud storage buckets remove-iam-policy-binding gs://{config.bucket} "
            f"--member={member} --role={FOLDER_ROLE}",
        )
        return
    answer = reader.folder_policy(config.bucket, f"{config.prefix}/")
    known = answer.good or answer.status == 404
    if known and not _roles(answer, member) & {FOLDER_ROLE, "roles/storage.objectUser"}:
        yield warning(
            "bucket",
            f"{url} does not give {config.service_account} {FOLDER_ROLE}: unless the project or "
            "a group does, no machine can work",
            grant,
        )


def _roles(policy: Answer, member: str) -> set[str]:
    """Returns the roles that a policy gives to a member."""
    bindings = policy.body.get("bindings", [])
    return {str(b.get("role")) for b in bindings if member in b.get("members", [])}


def store(config: GcpConfig, url: str) -> Iterator[Finding]:
    """Checks whether the machines can reach the mailbox at all."""
    parts = urlsplit(url)
    if parts.scheme != "gs":
        yield problem(
            "store",
            f"machines of Google Cloud cannot reach {url}",
            f"--store {config.store_url} (which is the default here, without DRILLYARD_STORE)",
        )
    elif parts.netloc != config.bucket:
        yield warning(
            "store",
            f"the mailbox is in gs://{parts.netloc}, and the settings name the bucket "
            f"{config.bucket}: the machines' rights must be on the former",
            f"--store {config.store_url}",
        )


def network(reader: Reader, config: GcpConfig, regions: list[str]) -> Iterator[Finding]:
    """Checks whether machines without a public address have a way to the bucket."""
    if config.public_ip:
        yield warning(
            "network",
            "machines get public addresses (public_ip: true)",
            "leave it out: machines need no connection from outside",
        )
        return
    for region in regions:
        name = (config.subnetwork or config.network).rpartition("/")[2]
        answer = reader.compute(f"regions/{region}/subnetworks/{quote(name)}")
        if answer.status == 404:
            yield Finding(
                Severity.WARNING if config.subnetwork is None else Severity.ERROR,
                "network",
                f"there is no subnetwork {name!r} in {region}",
                "set subnetwork to regions/REGION/subnetworks/NAME; gcloud compute networks "
                f"subnets list --regions={region} --project={config.project}",
            )
        elif answer.good and not answer.body.get("privateIpGoogleAccess"):
            routers = reader.compute(f"regions/{region}/routers")
            nat = any(router.get("nats") for router in routers.body.get("items") or [])
            hidden = not routers.good and routers.status != 404  # our own role may not list them
            way = "use Cloud NAT for" if nat else "may not reach" if hidden else "cannot reach"
            yield Finding(
                Severity.WARNING if nat or hidden else Severity.ERROR,
                "network",
                f"subnetwork {name} in {region} has no Private Google Access: machines without a "
                f"public address {way} the bucket",
                f"gcloud compute networks subnets update {name} --region={region} "
                f"--enable-private-ip-google-access --project={config.project}; or leave "
                f"{region} out of zones; with Cloud NAT, give yourself compute.routers.list",
            )


def image(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    """Checks whether the image and the template that were named are there."""
    named = config.image or config.image_family
    if named is not None:
        path = named.partition("/compute/v1/")[2] or named
        answer = reader.compute(path)
        if answer.status == 404:
            yield catalogue.missing(
                "image", f"there is no image {path}", "images", path.split("/")[1]
            )
        elif answer.good:
            yield from _usable(path, answer.body, config)
    elif config.container is None and config.wheelhouse is None and config.template is None:
        yield problem(
            "image",
            "nothing says where machines get drillyard from: no image, container, wheelhouse or "
            "template",
            "`drillyard configure gcp` asks for them; the documentation shows how to build an "
            "image: Run on Google Cloud",
        )
    if config.template is not None:
        answer = reader.compute(f"global/instanceTemplates/{quote(config.template)}")
        if answer.status == 404:
            message = f"there is no instance template {config.template!r}"
            yield catalogue.missing("template", message, "instance-templates", config.project)


def driver(reader: Reader, config: GcpConfig, order: Order | None) -> Iterator[Finding]:
    """Compares the driver of machines with GPUs with what their image has, by its labels."""
    named = config.image or config.image_family
    labels: Mapping[str, Any] = {}
    if named is not None and order is not None and order.gpus:
        answer = reader.compute(named.partition("/compute/v1/")[2] or named)
        labels = answer.body.get("labels") or {} if answer.good else {}
    if labels.get("drillyard") != "image":
        labels = {}  # yours mean something else
    known = drivers.Software(
        labels.get("torch"), labels.get("jax"), int(labels.get("driver") or 0) or None
    )
    kind = "container" if config.container else "image"
    brought = [
        table()["machines"][n]["gpu"] for n in config.machine_types if n in table()["machines"]
    ]
    attached = [m for m, name in table()["accelerators"].items() if name == config.gpu_type]
    for model in dict.fromkeys([*brought, *attached]) or [None]:
        yield from drivers.examine(order, "gcp", kind, model, known)


def container(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    """Checks whether the machines may pull a private image, if Google tells."""
    match = _REGISTRY.match(config.container or "")
    if match is None:
        return
    answer = reader.repository_policy(match["project"], match["location"], match["name"])
    roles = _roles(answer, f"serviceAccount:{config.service_account}") | _roles(answer, "allUsers")
    if answer.good and not any(role.startswith("roles/artifactregistry.") for role in roles):
        yield warning(
            "container",
            f"the repository {match['name']} itself does not let {config.service_account} pull "
            f"{config.container}: unless the project or a group does, no machine can start",
            f"gcloud artifacts repositories add-iam-policy-binding {match['name']} --project="
            f"{match['project']} --location={match['location']} --role="
            f"roles/artifactregistry.reader --member=serviceAccount:{config.service_account}",
        )


def _usable(path: str, body: Mapping[str, Any], config: GcpConfig) -> Iterator[Finding]:
    """Checks whether machines can be made from an image that exists."""
    state = str((body.get("deprecated") or {}).get("state", ""))
    if state in ("OBSOLETE", "DELETED"):
        yield problem("image", f"{path} is {state.lower()}", "name a newer one")
    if str(body.get("architecture", "")) == "ARM64":
        yield problem(
            "image",
            f"{path} is built for ARM64, and drillyard's machines are x86_64",
            "name an image of architecture X86_64: gcloud compute images list "
            f"--project={path.split('/')[1]} --filter=architecture=X86_64",
        )
    size = int(body.get("diskSizeGb", 0))
    if size > config.disk_gb and config.template is None:
        yield problem(
            "disk_gb",
            f"the disk has {config.disk_gb} GB, and {path} needs {size} GB",
            f"set disk_gb to {size} or more",
        )
    owner = path.split("/")[1]
    if owner != config.project and not owner.endswith(_PUBLIC):
        yield warning(
            "image",
            f"{path} belongs to another project: Google's service agent of {config.project}, "
            "which makes the machines, needs roles/compute.imageUser there",
            f"gcloud projects add-iam-policy-binding {owner} --role=roles/compute.imageUser "
            "--condition=None --member=serviceAccount:$(gcloud projects describe "
            f"{config.project} --format='value(projectNumber)')@cloudservices.gserviceaccount.com",
        )


def _near(location: str, region: str) -> bool:
    wide = _CONTINENTS.get(location.upper())
    return location == region or (wide is not None and region.startswith(wide))
