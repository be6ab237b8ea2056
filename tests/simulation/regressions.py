"""Schedules that have failed, each cut down, and what was wrong with the product."""

from __future__ import annotations

from tests.simulation.campaign import one
from tests.simulation.patches import installed
from tests.simulation.plan import Fault, Plan

PLANS: dict[str, Plan] = {
    # Seed 500027. Jobs that were sent after the lease's limit ended at once, and counted as jobs
    # that no worker had begun: the run was called lost, where its time was over.
    "jobs that are sent after the limit": Plan(
        500027,
        backend="azure",
        workers=1,
        duration_s=20.0,
        pace_s=0.5,
        latency_s=0.01,
        study=3,
        listing_lag_s=0.0,
        boot_s=2.0,
        max_hours=0.05,
    ),
    # Seed 600010. An error that the provider's library does not document was no error of the
    # provider, so that the first one ended the command.
    "one unexpected error of a provider's library": Plan(
        600010,
        workers=1,
        pace_s=2.0,
        latency_s=0.05,
        boot_s=2.0,
        faults=[Fault("refuse", 0.0, who="driver", service="cloud")],
    ),
    # Seed 750310. A driver that slept while it posted the runs of a trial went on posting after
    # another one took over.
    "a lid that is closed while a trial is posted": Plan(
        750310,
        latency_s=0.2,
        study=3,
        listing_lag_s=10.0,
        boot_s=10.0,
        max_hours=0.05,
        faults=[Fault("close_lid", 12.35, for_s=120.0), Fault("second_driver", 122.35)],
    ),
    # Seed 720000710. A driver that slept after its intent asked for the machines without another
    # look, though the next driver had done everything and ended the lease.
    "a driver that sleeps between the intent and the request": Plan(
        720000710,
        backend="gcp",
        seeds=1,
        workers=1,
        latency_s=0.01,
        listing_lag_s=10.0,
        boot_s=2.0,
        faults=[
            Fault("sleep-after", 0.0, "driver", "intent.json", for_s=150.0, service="store"),
            Fault("second_driver", 40.0),
        ],
    ),
    # Seed 903695602. A store that refused single requests for a few seconds used up all attempts
    # of a run within five seconds: the first record of an attempt was not tried again, and nothing
    # came between two attempts.
    "a store that loses its answers for a few seconds": Plan(
        903695602,
        workers=1,
        latency_s=0.05,
        listing_lag_s=0.0,
        boot_s=30.0,
        faults=[Fault("lose-answer", 4.4, "ticket", "attempts/", left=12, service="store")],
    ),
    "a store that refuses an attempt's records": Plan(
        913696583,
        backend="azure",
        workers=1,
        duration_s=20.0,
        pace_s=2.0,
        latency_s=0.01,
        listing_lag_s=0.0,
        boot_s=10.0,
        faults=[Fault("refuse", 0.0, "ticket", "attempts/", left=12, service="store")],
    ),
    # Seed 643241341. All trials had failed, and the lease was not confirmed as gone. The command
    # was given again while the provider was away: it said that the trials had failed, so that no
    # further command ended the lease.
    "an open lease whose runs have all failed": Plan(
        643241341,
        seeds=1,
        workers=1,
        pace_s=0.5,
        latency_s=0.05,
        study=2,
        boot_s=30.0,
        faults=[
            Fault("outage", 31.07, for_s=263.9, service="cloud"),
            Fault("crash_loop", 42.58, for_s=120.0),
        ],
    ),
    # Seed 653242782. A driver that slept during its set-up went on replacing machines after
    # another one took over: only what follows the set-up looked before it asked for machines.
    "a driver that sleeps during its set-up": Plan(
        653242782,
        seeds=1,
        duration_s=20.0,
        pace_s=0.5,
        latency_s=0.2,
        study=3,
        listing_lag_s=0.0,
        boot_s=30.0,
        faults=[
            Fault("sleep-before", 0.0, who="driver", nth=3, for_s=124.2, service="cloud"),
            Fault("preempt", 85.07),
            Fault("clone", 135.79),
        ],
    ),
    # Seed 762158556. The machines did everything while the driver slept during its set-up, and the
    # store lost its answer while the driver rented others: the study was called failed, because
    # "the lease was torn down".
    "a store that loses its answer while a lease is replaced": Plan(
        762158556,
        seeds=1,
        workers=1,
        pace_s=0.5,
        latency_s=0.01,
        study=3,
        listing_lag_s=10.0,
        boot_s=10.0,
        faults=[
            Fault("sleep-before", 0.0, who="driver", nth=3, for_s=58.0, service="cloud"),
            Fault("lose-answer", 13.36, "driver", "rented.json", service="store"),
        ],
    ),
    # Seed 17100791. A driver that slept just before it sent a job sent it after the next one had
    # ended the lease: no command would have ended that job.
    "a driver that sleeps before it sends a job": Plan(
        17100791,
        backend="azure",
        duration_s=60.0,
        latency_s=0.05,
        study=2,
        listing_lag_s=10.0,
        boot_s=10.0,
        max_hours=0.05,
        faults=[
            Fault("second_driver", 3.03),
            Fault("repeat", 21.13),
            Fault("pause", 23.07, who="driver", for_s=191.2),
            Fault("second_driver", 172.9),
        ],
    ),
    # Seed 860319329. A store that only the machines could not reach for three minutes made six
    # jobs end before they began, one right after another, and the run was given up.
    "a store that machines cannot reach for minutes": Plan(
        860319329,
        backend="azure",
        workers=1,
        duration_s=60.0,
        pace_s=0.5,
        latency_s=0.05,
        study=2,
        listing_lag_s=0.0,
        boot_s=2.0,
        faults=[Fault("outage", 12.0, who="machine", for_s=180.6, service="store")],
    ),
    # Seed 884167841. A lid that was closed before the first job: the cluster, which has no node
    # without a job, was counted as machines up to the moment when the lid was opened.
    "a lid that is closed while a cluster has no node": Plan(
        884167841,
        backend="azure",
        seeds=1,
        workers=1,
        pace_s=2.0,
        latency_s=0.05,
        listing_lag_s=10.0,
        boot_s=30.0,
        max_hours=0.05,
        faults=[Fault("close_lid", 38.07, for_s=461.7)],
    ),
    # Seed 527510099. The store refused a worker's first records, and its node died just after it
    # had claimed a ticket. Nothing said which lease it belonged to, so that the ticket waited for
    # it until the budget ended the run.
    "a worker that dies before its record is in the store": Plan(
        527510099,
        backend="azure",
        duration_s=60.0,
        latency_s=0.05,
        boot_s=30.0,
        faults=[
            Fault("refuse", 0.0, "worker", "workers/", service="store"),
            Fault("die-after", 0.0, "worker", "claims/", service="store"),
            Fault("refuse", 0.0, "worker", nth=1, service="store"),
        ],
    ),
    # Seed 335683478. A second program began on a machine just after an outage, before the first
    # one had written again. Its start counted as that of another machine of the same name, so
    # that the attempt of the first one was closed while it worked.
    "a second program on a machine after an outage": Plan(
        335683478,
        backend="gcp",
        workers=1,
        duration_s=20.0,
        pace_s=0.5,
        latency_s=0.05,
        listing_lag_s=10.0,
        boot_s=30.0,
        faults=[
            Fault("outage", 47.42, who="machine", for_s=109.1, service="store"),
            Fault("twin_worker", 157.05, nth=1),
        ],
    ),
    # Seed 512587929. A driver slept while it ended its lease. When it woke, it went on, and ended
    # the machines of the driver that had taken over again and again: it looked only once.
    "a driver that sleeps during its teardown": Plan(
        512587929,
        duration_s=20.0,
        latency_s=0.2,
        study=3,
        listing_lag_s=10.0,
        boot_s=30.0,
        faults=[
            Fault(
                "sleep-after", 0.0, "ticket", ".ended.json", nth=1, for_s=293.1, service="store"
            ),
            Fault("outage", 28.07, for_s=33.3, service="cloud"),
            Fault("close_lid", 65.83, for_s=285.1),
            Fault("second_driver", 134.64),
        ],
    ),
    # Seed 200039. A node of Azure was lost just after it had claimed a ticket. The next node of
    # the job waited 20 s for it, and it was free some seconds later: a third one was rented.
    "a job that starts again before its lost attempt is closed": Plan(
        200039,
        backend="azure",
        seeds=3,
        duration_s=20.0,
        pace_s=0.5,
        latency_s=0.05,
        boot_s=30.0,
        faults=[
            Fault("ghost-before", 0.0, "worker", "workers/", nth=3, for_s=4.3),
            Fault("sleep-before", 0.0, "worker", "claims/", for_s=2.7),
        ],
    ),
    # Seed 300014. The program of a machine ended before it began, and the other machine did the
    # whole study while the driver waited in its set-up. Only plain experiments were seen to be
    # done there: the driver waited on, and rented two machines for nothing.
    "a study that is done before all machines are ready": Plan(
        300014,
        backend="gcp",
        seeds=1,
        duration_s=60.0,
        pace_s=2.0,
        latency_s=0.05,
        study=3,
        boot_s=2.0,
        faults=[Fault("die-after", 0.0, "worker", service="store")],
    ),
    # Seed 300165. The store was away for 48 s while results were put where people look for them.
    # That phase repeated nothing, so its attempt was lost.
    "a store that is away while results are published": Plan(
        300165,
        duration_s=20.0,
        pace_s=0.5,
        latency_s=0.01,
        listing_lag_s=10.0,
        boot_s=30.0,
        faults=[
            Fault("outage", 5.79, for_s=22.5, service="store"),
            Fault("preempt", 47.11, nth=1),
            Fault("preempt", 77.11, nth=1),
            Fault("outage", 117.4, for_s=47.7, service="store"),
        ],
    ),
    # Seed 330211. The store was away for the driver while its machines did all runs of a study.
    # The last trial was not judged when it came back, so it rented two machines for nothing.
    "a study whose runs end while the driver does not see it": Plan(
        330211,
        seeds=1,
        duration_s=60.0,
        pace_s=0.5,
        latency_s=0.01,
        study=2,
        chooser="manual",
        given={"study": {"cycles": [{"x": 0.25}, {"x": 0.75}]}},
        boot_s=2.0,
        faults=[
            Fault("die-after", 0.0, who="worker", service="cloud"),
            Fault("outage", 43.19, who="laptop", for_s=44.1, service="store"),
        ],
    ),
    # Seed 94982576. The answers to the creation of machines were lost for half a minute, and the
    # machines froze. The driver had looked for groups before it made them, and asked about none
    # until the answer came: its machines counted as gone, and their attempts were closed.
    "machines whose creation is not answered": Plan(
        94982576,
        backend="gcp",
        seeds=1,
        workers=1,
        duration_s=60.0,
        pace_s=0.5,
        latency_s=0.01,
        listing_lag_s=0.0,
        boot_s=2.0,
        faults=[
            Fault("lose-answer", 2.44, "driver", nth=9, left=12, service="cloud"),
            Fault("freeze", 27.28, for_s=102.5),
        ],
    ),
    # Seed 890094. Two stages began side by side, and the second found the cluster that the first
    # was making: a conflict, and not to be seen for some seconds. It was called another
    # workspace's.
    "two stages that make one cluster": Plan(
        890094,
        backend="azure",
        seeds=3,
        workers=1,
        duration_s=20.0,
        pace_s=2.0,
        latency_s=0.2,
        stages=True,
        boot_s=10.0,
        faults=(Fault("break_stage", 1.0, who="first", for_s=1800.0),),
    ),
}


def replay() -> int:
    """Replay each; the exit code is 1 if one fails again."""
    failed = 0
    with installed() as begin:
        for name, plan in PLANS.items():
            trouble = one(plan, begin).trouble
            failed += bool(trouble)
            print(f"{name}: {trouble[0] if trouble else 'all invariants hold'}", flush=True)
    return 1 if failed else 0
