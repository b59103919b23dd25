# Airflow with what MWAA would install, at the versions that MWAA would take.
ARG BASE
FROM ${BASE}

# Where requirements.txt looks for it on MWAA.
COPY requirements/constraints.txt /usr/local/airflow/plugins/constraints.txt
COPY requirements.txt /tmp/requirements.txt
# The rest is on MWAA's image too; here it is brought to the same versions.
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt \
    "apache-airflow==3.3.1" \
    "apache-airflow-providers-amazon[aiobotocore]" \
    apache-airflow-providers-celery \
    apache-airflow-providers-common-sql \
    apache-airflow-providers-http \
    apache-airflow-providers-postgres \
    apache-airflow-providers-standard \
    aiohttp asyncpg httpx msgspec psycopg2-binary pydantic redis
