"""What an order takes on Google Cloud: everything that is missing for it, and its price.

``examine`` reads and changes nothing; ``estimate`` makes no request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from drillyard.backend import Cost, Order, Part
from drillyard.errors import ControlPlaneError, UserError
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.runs import wheels
from drillyard.simulators.hosts.posted import reach
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends import sign_ins
from drillyard_backends.gcp import catalogue, prerequisites, prices, rights
from drillyard_backends.gcp.catalogue import Catalogue
from drillyard_backends.gcp.errors import fix_of_refusal
from drillyard_backends.gcp.read_only_client import Line, Reader
from drillyard_backends.gcp.settings import GcpConfig
from drillyard_backends.gcp.zones import candidates, hourly
from drillyard_backends.pricelists import YOURS

SHORTEST_S, LONGEST_S = 30.0, 120 * 24 * 3600.0
"""What ``maxRunDuration`` of a machine may be."""
SHOWN = 8
"""Number of candidates that ``plan`` shows."""


def examine(
    config: GcpConfig,
    order: Order | None = None,
    line: Line | None = None,
    clock: Clock = SYSTEM,
) -> list[Finding]:
    """Returns every problem in one list.

    Args:
        config: The settings.
        order: What would be rented; None: one machine, for ``doctor``.
        line: Carries the questions; default HTTPS.
        clock: This machine's.
    """
    reader = Reader(config.project, line, clock)
    count = machines(config, order)
    findings: list[Finding] = []
    if order is not None:
        findings += _life(order, clock)
        if order.hosts and count > 1:
            findings.append(reach(config.copies_port))
        findings += prerequisites.store(config, order.store_url)
        findings += wheels.examine(order, config.target)
    findings += _priced(config)
    findings += _order_of_trial(config)
    # Without a right clock and a login every other question would be answered by the same error.
    for first in (
        lambda: prerequisites.clock(reader, config),
        lambda: _login(reader, config),
    ):
        asked = list(_asked("login", first))
        findings += asked
        if any(f.severity is Severity.ERROR for f in asked):
            return findings
    for subject, ask in _questions(reader, config, count, order):
        findings += _asked(subject, ask)
    return findings


def _questions(
    reader: Reader, config: GcpConfig, count: int, order: Order | None
) -> list[tuple[str, Callable[[], Iterable[Finding]]]]:
    """Returns the questions to Google with their subjects; a later one uses earlier answers."""
    available = Catalogue()

    def regions() -> list[str]:
        return list(dict.fromkeys(available.zones.values()))

    def in_project() -> Iterable[Finding]:
        new = not prerequisites.bucket_is_there(reader, config.bucket)
        return rights.project(reader, config, new_bucket=new)

    gpus = config.gpus_of(order.gpus) if order else 0
    return [
        ("apis", lambda: rights.apis(reader)),
        ("rights", in_project),
        ("service_account", lambda: rights.account(reader, config)),
        ("service_account", lambda: rights.machine(reader, config)),
        ("zones", lambda: catalogue.zones(reader, config, available)),
        ("machine_types", lambda: catalogue.machine_types(reader, config, gpus, available)),
        ("disk_type", lambda: catalogue.disk_types(config, available)),
        ("gpu_type", lambda: catalogue.accelerators(reader, config, available)),
        ("gpus", lambda: catalogue.enough_gpus(config, gpus, available)),
        ("quota", lambda: catalogue.room(reader, config, count, available)),
        ("bucket", lambda: prerequisites.bucket(reader, config, regions())),
        ("network", lambda: prerequisites.network(reader, config, regions())),
        ("image", lambda: prerequisites.image(reader, config)),
        ("driver", lambda: prerequisites.driver(reader, config, order)),
        ("container", lambda: prerequisites.container(reader, config)),
    ]


def machines(config: GcpConfig, order: Order | None) -> int:
    """How many machines an order takes."""
    return 1 if order is None else math.ceil(order.all_workers / config.workers_per_machine)


def estimate(config: GcpConfig, order: Order) -> Cost:
    """Returns the price of the most expensive choice that the settings allow, and its parts.

    Args:
        config: The settings.
        order: What would be rented.
    """
    count, regions = machines(config, order), _regions(config)
    fallback = config.spot and (config.on_demand_after is not None or config.on_demand_when_full)
    spot = config.spot and not fallback
    per_machine, name = _dearest(config, order, regions, spot)
    cheap, _ = _dearest(config, order, regions, config.spot)
    disk = max((prices.disk_price(config.disk_type, r) or 0.0) for r in regions)
    disk_hour = disk * config.disk_gb / prices.HOURS_A_MONTH
    notes = []
    if fallback and cheap < per_machine:
        notes = [
            f"as Spot {count * (cheap + disk_hour):.3f}; counted on-demand, because lost Spot "
            "machines may be replaced so (on_demand_after: null keeps to Spot)"
        ]
    elif config.spot and prices.spot_price(prices.parts(name), regions[0]) is None:
        notes = ["counted on-demand: the Spot price is not known (drillyard prices refresh gcp)"]
    if len(regions) > 1:
        lowest, best = min((_dearest(config, order, [r], spot)[0], r) for r in regions)
        notes.append(f"in {best}, the cheapest of the regions, {count * (lowest + disk_hour):.3f}")
    return Cost(
        per_hour=count * (per_machine + disk_hour),
        currency=prices.currency(),
        prices_of=YOURS if _unlisted(config) else _oldest(config, name, regions),
        note="; ".join(notes),
        spot=spot,
        parts=_parts(config, order, name, per_machine, disk_hour),
        unpriced=_unpriced(config),
    )


def _parts(
    config: GcpConfig, order: Order, machine_type: str, per_machine: float, disk_hour: float
) -> list[Part]:
    group = f"{config.group_prefix}-{order.lease_id.removeprefix('dy-')}"
    kind = "Spot" if config.spot else "on-demand"
    count, where = machines(config, order), ", ".join(config.zones)
    return [
        Part(
            what=f"machine {machine_type} ({kind})",
            name=f"{group}-w0-0 …",
            count=count,
            where=where,
            per_hour=per_machine,
        ),
        Part(
            what=f"disk {config.disk_type} {config.disk_gb} GB",
            count=count,
            where=where,
            per_hour=disk_hour,
            note="deleted with its machine",
        ),
        Part(what="managed instance group", name=group, where=where),
        Part(what="instance template", name=group, where="global"),
        Part(
            what="bucket",
            name=f"gs://{config.bucket}",
            where=config.bucket_location,
            note="created if it does not exist; stays",
        ),
    ]


def _dearest(config: GcpConfig, order: Order, regions: list[str], spot: bool) -> tuple[float, str]:
    """(price an hour with its GPUs, machine type)."""
    gpus = (config.gpu_count or max(1, order.gpus)) if config.gpu_type else 0
    prices_and_names = [
        (_machine(config, name, gpus, region, spot) or 0.0, name)
        for name in config.machine_types
        for region in regions
    ]
    return max(prices_and_names)


def _machine(config: GcpConfig, name: str, gpus: int, region: str, spot: bool) -> float | None:
    """Price of a machine with its GPUs: of the list, else of the settings."""
    host = prices.price(name, region, spot)
    gpus = 0 if name.startswith(prices.WITH_GPUS) else gpus
    each = prices.gpu_price(config.gpu_type or "", region, spot) if gpus else 0.0
    known = None if host is None or each is None else host + gpus * each
    return config.price_per_hour if known is None else known


def _oldest(config: GcpConfig, name: str, regions: list[str]) -> str:
    """The date of the oldest price that may be counted for a machine."""
    gpu = None if name.startswith(prices.WITH_GPUS) else config.gpu_type
    return min(prices.date_of(name, region, gpu) for region in regions)


def _unpriced(config: GcpConfig) -> list[str]:
    """What neither the price list nor the settings have a price for."""
    return [] if config.price_per_hour is not None else _unlisted(config)


def _unlisted(config: GcpConfig) -> list[str]:
    region = _regions(config)[0]
    unknown = [m for m in config.machine_types if prices.price(m, region, False) is None]
    if config.gpu_type and prices.gpu_price(config.gpu_type, region, False) is None:
        unknown.append(config.gpu_type)
    return unknown


def _regions(config: GcpConfig) -> list[str]:
    return list(dict.fromkeys(zone.rpartition("-")[0] for zone in config.zones))


def _priced(config: GcpConfig) -> Iterator[Finding]:
    """Says that a price is not known; whether the budget bears that, the core decides."""
    unknown = _unpriced(config)
    if unknown:
        yield warning(
            "prices",
            f"the price list of {prices.date()} has no {', '.join(unknown)}",
            "drillyard prices refresh gcp; or give its price: backends.gcp.price_per_hour; or "
            f"your own list: {prices.OVERRIDE}=FILE",
        )


def _order_of_trial(config: GcpConfig) -> Iterator[Finding]:
    """Shows what is tried, one after the other, until there is capacity and quota."""
    if not config.cheapest_first:
        return
    all_ = candidates(config)
    priced = [(candidate.words, hourly(config, candidate)) for candidate in all_]
    texts = [f"{words} {price:.3f}" if price else words for words, price in priced]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    yield passed(
        "order",
        f"cheapest first, {prices.currency()} an hour (prices of {prices.date()}): "
        + "; ".join(texts[:SHOWN])
        + more,
    )


def _life(order: Order, clock: Clock) -> Iterator[Finding]:
    if order.deadline is None:
        return
    life_s = order.deadline - clock.now()
    if not SHORTEST_S <= life_s + 1.0 <= LONGEST_S + 60.0:
        yield problem(
            "budget.max_hours",
            f"{life_s:,.0f} s: a machine of Google Cloud can run for 30 s to 120 days",
            "set budget.max_hours between 0.01 and 2880",
        )


def _login(reader: Reader, config: GcpConfig) -> Iterator[Finding]:
    answer = reader.compute("")
    seen = answer.good or answer.api_off
    if not seen and answer.status == 403:
        # No right to look at it, or no such project: Google tells the two apart elsewhere.
        seen = reader.project_rights(["compute.projects.get"]).good
    who = reader.member.partition(":")[2]
    who = "your gcloud login" if who.startswith('"$(') else who
    if seen:
        yield passed("login", f"{who} in project {config.project}")
        yield from sign_ins.of_google(reader.member)
    else:
        yield problem(
            "login",
            f"{who} does not see project {config.project!r}: {answer.message}",
            fix_of_refusal(answer.message)
            or "is backends.gcp.project right, and the identity? gcloud projects list; gcloud "
            "auth application-default login",
        )


def _asked(subject: str, ask: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from list(ask())
    except UserError as error:
        yield problem(subject, error.message, error.hint)
    except ControlPlaneError as error:
        yield problem(subject, error.message, error.hint, infrastructure=True)
