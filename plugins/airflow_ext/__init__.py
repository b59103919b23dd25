"""Everything that mentions Airflow, apart from the DAGs."""
