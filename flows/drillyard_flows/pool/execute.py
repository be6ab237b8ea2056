"""``python -m drillyard_flows.pool.execute ENTRYPOINT``: executes the flow run of this machine.

It does what ``prefect flow-run execute`` does, with the code of the working folder instead of the
folder that the deployment names, which is on another machine: a process for the flow, its
heartbeats, its cancellation with hooks, and its crash. Prefect has no public name for this: it
deprecated ``Runner.execute_flow_run`` in March 2026 and names the two classes used here instead.
"""

from __future__ import annotations

import asyncio
import os
import sys
from uuid import UUID

from prefect.flows import load_flow_from_entrypoint
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._starter_engine import EngineCommandStarter


async def execute(flow_run: UUID, entrypoint: str) -> None:
    """Executes a flow run, and returns when it has ended.

    Args:
        flow_run: Its id.
        entrypoint: ``file.py:flow``, relative to the working folder, or ``package.module:flow``.
    """
    async with FlowRunExecutorContext() as context:
        executor = context.create_executor(
            await context.client.read_flow_run(flow_run),
            EngineCommandStarter(entrypoint=entrypoint, control_channel=context.control_channel),
            # Only for its hooks, after it was cancelled or has crashed.
            resolve_flow=lambda run: asyncio.to_thread(load_flow_from_entrypoint, entrypoint),
            propose_submitting=False,
        )
        await executor.submit()


if __name__ == "__main__":
    asyncio.run(execute(UUID(os.environ["PREFECT__FLOW_RUN_ID"]), sys.argv[1]))
