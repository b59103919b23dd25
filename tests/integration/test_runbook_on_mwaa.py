"""The shell functions of the runbook for AWS, which `make prove` cannot run, against an MWAA made for the test."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from docs import prove

RUN = {"dag_run_id": "manual__2026-03-08", "state": "failed"}


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


def test_functions_print_what_airflow_answered_as_those_of_the_local_stack_do(mwaa: Mwaa, root: Path) -> None:
    blocks = prove.blocks_of("docs/RUNBOOK.md", (root / "docs/RUNBOOK.md").read_text(encoding="utf-8"))
    (for_aws,) = (block for block in blocks if "airflow_api() {\n  aws mwaa" in block.text)
    (for_both,) = (block for block in blocks if "runs() {" in block.text)
    script = "\n".join([prove.script_of([]), for_aws.text, for_both.text, "runs dex_trigger_archive 1"])
    environment = {
        "PATH": f"{root / '.venv-aws/bin'}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{mwaa.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Else the CLI would look up "env." and the address.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "block": "docs/RUNBOOK.md",
    }
    done = subprocess.run(
        ["bash", "-c", script.replace("export AWS_PROFILE=pipelines ", "export ")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dag_runs"] == [RUN]
    ((path, body),) = mwaa.asked
    assert path == "/restapi/pipelines-prod"
    assert (body["Path"], body["Method"]) == ("/dags/~/dagRuns/list", "POST")
    assert body["Body"] == {"dag_ids": ["dex_trigger_archive"], "order_by": "-run_after", "page_limit": 1}
