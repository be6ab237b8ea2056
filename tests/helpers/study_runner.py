"""Drives a study file to its end without Prefect; killed at will by its caller."""

from __future__ import annotations

import sys

import drillyard

if __name__ == "__main__":
    results = drillyard.run(sys.argv[1], store=sys.argv[2], flow=False, report=False, say=print)
    print(results.status)
