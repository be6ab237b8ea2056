"""A work pool of Prefect that rents: each flow run gets machines of its own, from any backend.

A flow run is an experiment of one run with the workload ``workload.FlowRun``, in the store of the
pool. So leases, budgets, ledger, reaper, packages and code are those of every experiment.

    worker.py      Prefect's worker: takes flow runs, and looks for those without a driver
    request.py     what a flow run asks for, checked before anything is rented -> an experiment
    account.py     what the pool may spend in a month, by put-if-absent
    session.py     drives the experiment; at its end: the state, the cost
    workload.py    on the machine: starts the flow, and reports an end that Prefect did not see
    execute.py     on the machine: executes the flow run, and follows its cancellation
    flow_run_api.py  flow runs over plain HTTP, for code that must not import Prefect
"""
