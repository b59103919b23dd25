"""The domain in plain Python: takes values, returns values, never imports Airflow."""
