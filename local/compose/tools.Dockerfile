# The AWS emulator, the deployment, the partner stubs and the seeding of SQL Server: one image, four commands.
FROM python:3.12-slim-bookworm

# `sam build` calls make for every function.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/pipelines
COPY requirements requirements
# As on the local stack: the emulator and the SAM CLI pin other versions than Airflow does.
RUN python -m venv .venv-aws \
    && .venv-aws/bin/pip install --no-cache-dir --requirement requirements/emulator.txt \
    && pip install --no-cache-dir --constraint requirements/local.txt \
    boto3 msgspec psutil pydantic PyJWT pymssql standardwebhooks starlette uvicorn
COPY infra infra
COPY lambdas lambdas
COPY local local
RUN useradd --create-home pipelines
USER pipelines
ENV PYTHONUNBUFFERED=1 TMPDIR=/tmp
