"""``drillyard deploy``: registers block types, pools, deployments and automations in Prefect."""
