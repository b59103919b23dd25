# The AWS emulator, the deployment, the partner stubs, the seeding of SQL Server, and the command lines for people.
ARG BASE
FROM ${BASE}

# `sam build` calls make for every function.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/pipelines
COPY requirements requirements
# As on the local stack: the emulator and the SAM CLI pin other versions than Airflow does.
RUN python -m venv .venv-aws \
    && .venv-aws/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/hashed/emulator.txt \
    && pip install --no-cache-dir --constraint requirements/local.txt \
    aiohttp boto3 httpx msgspec psutil pydantic PyJWT pymssql rich standardwebhooks starlette uvicorn
COPY infra infra
COPY lambdas lambdas
COPY local local
# With the functions' libraries: a start needs no package index.
RUN python -m local.compose.deploy --build-only --build-dir build
COPY include include
COPY ops ops
RUN useradd --create-home pipelines && install --directory --owner pipelines .local
USER pipelines
ENV PYTHONUNBUFFERED=1 TMPDIR=/tmp
