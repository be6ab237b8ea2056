"""``drillyard deploy``: block types, pools, deployments and automations on a Prefect server."""
