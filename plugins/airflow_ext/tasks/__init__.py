"""What the tasks of each DAG do: Airflow's context on one side, the domain on the other."""
