"""Choosing, judging, pruning and resuming trials; without Prefect."""
