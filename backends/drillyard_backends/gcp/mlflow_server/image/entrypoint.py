"""Bring the database up to date, then be the MLflow server. Runs in the image, without drillyard.

Environment: ``MLFLOW_BACKEND_STORE_URI``, ``MLFLOW_ARTIFACTS_DESTINATION``, ``PORT``.
"""

import os
import sys

LOCK = 0x6D6C666C6F77
"""Two servers that start at once migrate one after the other."""


def bring_up_to_date(address: str) -> None:
    """Make or migrate the tables; MLflow's server makes them, but never migrates them."""
    import sqlalchemy
    from mlflow.store.db import utils

    engine = sqlalchemy.create_engine(address)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        if sqlalchemy.inspect(engine).has_table("alembic_version"):
            utils._upgrade_db(engine)
        else:
            utils._initialize_tables(engine)
    engine.dispose()


def main() -> None:
    """Become the server."""
    bring_up_to_date(os.environ["MLFLOW_BACKEND_STORE_URI"])
    # The address is in the environment: on a command line every process could read it.
    command = [
        "-m",
        "mlflow",
        "server",
        "--host",
        os.environ.get("HOST", "0.0.0.0"),
        "--port",
        os.environ.get("PORT", "8080"),
        "--workers",
        "2",
        "--serve-artifacts",
        "--artifacts-destination",
        os.environ["MLFLOW_ARTIFACTS_DESTINATION"],
    ]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
