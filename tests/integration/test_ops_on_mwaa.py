"""The command line ops as on AWS, where `make prove` cannot run it, against an MWAA made for the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

RUN = {
    "dag_id": "dex_trigger_archive",
    "dag_run_id": "manual__2026-03-08",
    "state": "failed",
    "start_date": "2026-03-08T06:00:00Z",
    "end_date": "2026-03-08T06:02:05Z",
    "note": None,
}


class Mwaa(ThreadingHTTPServer):
    """The operation InvokeRestApi (Amazon MWAA API reference), which wraps what Airflow answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Mwaa)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        answer = json.dumps({"RestApiStatusCode": 200, "RestApiResponse": {"dag_runs": [RUN]}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def mwaa() -> Iterator[Mwaa]:
    """An MWAA on a port of its own."""
    server = Mwaa()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_runs_are_asked_of_mwaa_and_printed_for_scripts(mwaa: Mwaa, root: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{mwaa.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Else the client would look up "env." and the address.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "ENVIRONMENT": "prod",
    }
    command = [sys.executable, "-m", "ops", "--json", "runs", "dex_trigger_archive", "--limit", "1"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["run"], row["state"], row["seconds"]) == ("manual__2026-03-08", "failed", 125)
    ((path, body),) = mwaa.asked
    assert path == "/restapi/pipelines-prod"
    assert (body["Path"], body["Method"]) == ("/dags/~/dagRuns/list", "POST")
    assert body["Body"] == {"dag_ids": ["dex_trigger_archive"], "order_by": "-run_after", "page_limit": 1}
