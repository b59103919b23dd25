"""What Airflow makes of a project: :mod:`infra.release.airflow` runs a copy of this package."""
