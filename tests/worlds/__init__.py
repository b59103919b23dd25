"""Stand-ins of ours for what lies beyond the process: S3, partners, Airflow's context."""
