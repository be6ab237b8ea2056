"""The six phases as Prefect tasks."""
