"""The stages of a composite in Prefect: one task run each, in the order of their graph."""

FILE = """
schema: 1
name: staged
workload: composite
tracking: {mlflow: null}
children:
  - {name: left, workload: mock, outputs: {s: {metric: score}}}
  - {name: right, workload: mock}
  - {name: last, workload: script, after: [right], inputs: {s: left.s},
     script: {run: [[python, -c, "print('n=$s')"]], results: {stdout: '^(\\w+)=(\\S+)$'}}}
"""


def test_prefect_draws_the_graph_of_the_stages(bench, api):
    file = bench.folder / "staged.yaml"
    bench.folder.mkdir(exist_ok=True)
    file.write_text(FILE)
    bench.run("run", file)
    whole = api.flow_run("staged")
    assert whole["state_type"] == "COMPLETED"
    tasks = api.tasks(whole, "left", "right", "last")
    ids = {str(task["id"]): name for name, task in tasks.items()}
    waited = {ids[str(one["id"])] for one in tasks["last"]["task_inputs"]["wait_for"]}
    assert waited == {"left", "right"}
    stage = api.flow_run("staged.last")
    assert {"provision", "setup", "teardown"} <= set(api.tasks(stage, "teardown"))
