"""What docker-compose.yaml runs beside Airflow: secrets, deployment, and the clients in SQL Server."""
