"""The command line ops as on AWS, where `make prove` cannot run it, against an MWAA made for the test."""

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
    "dag_run_id": "scheduled__2026-03-08T01:30:00+00:00",
    "state": "failed",
    "start_date": "2026-03-08T06:00:00Z",
    "end_date": "2026-03-08T06:02:05Z",
    "note": None,
}

TASK = {"task_id": "summarize", "map_index": -1, "state": "failed", "end_date": RUN["end_date"]}


class Mwaa(ThreadingHTTPServer):
    """The operation InvokeRestApi (Amazon MWAA API reference), which wraps what Airflow answers, and takes paths of 64
    characters at most.

    Of the path ``fails`` Airflow does not answer in time.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, Any]] = []
        self.fails = ""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Mwaa)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        failed = body["Path"] == self.server.fails
        found = (
            {"detail": "no answer in time"}
            if failed
            else {"dag_runs": [RUN], "task_instances": [TASK], "is_paused": False, "total_entries": 1}
        )
        status = 500 if failed else 200 if len(body["Path"]) <= 64 else 400
        answer = json.dumps({"RestApiStatusCode": 504 if failed else 200, "RestApiResponse": found}).encode()
        self.send_response(status)
        if status != 200:
            self.send_header("x-amzn-ErrorType", "RestApiServerException" if failed else "ValidationException")
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


def ops(mwaa: Mwaa, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command as on AWS."""
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
    command = [sys.executable, "-m", "ops", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_runs_are_asked_of_mwaa_and_printed_for_scripts(mwaa: Mwaa, root: Path) -> None:
    done = ops(mwaa, root, "--json", "runs", "dex_trigger_archive", "--limit", "1")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["run"], row["state"], row["seconds"]) == (RUN["dag_run_id"], "failed", 125)
    (path, body), _ = mwaa.asked
    assert path == "/restapi/pipelines-prod"
    assert (body["Path"], body["Method"]) == ("/dags/~/dagRuns/list", "POST")
    asked = {"dag_ids": ["dex_trigger_archive"], "order_by": "-start_date", "page_limit": 1}
    assert body["Body"] == {**asked, "states": ["running", "success", "failed"]}


def test_run_is_started_once_though_airflow_did_not_answer_in_time(mwaa: Mwaa, root: Path) -> None:
    mwaa.fails = "/dags/dex_trigger_archive/dagRuns"
    done = ops(mwaa, root, "start", "dex_trigger_archive")
    assert done.returncode == 1
    assert "Airflow answered 504: no answer in time; it may have been done all the same" in done.stderr
    assert [body["Path"] for _, body in mwaa.asked] == ["/dags/dex_trigger_archive", mwaa.fails]


def test_what_only_reads_is_asked_again(mwaa: Mwaa, root: Path) -> None:
    mwaa.fails = "/dags/~/dagRuns/list"
    done = ops(mwaa, root, "runs", "dex_trigger_archive")
    assert done.returncode == 1
    assert [body["Path"] for _, body in mwaa.asked] == [mwaa.fails] * 3


def test_run_of_any_name_is_cleared(mwaa: Mwaa, root: Path) -> None:
    done = ops(mwaa, root, "clear", "dex_trigger_archive", str(RUN["dag_run_id"]), "--yes")
    assert done.returncode == 0, done.stderr
    cleared = [body["Body"] for _, body in mwaa.asked if body["Path"].endswith("/clearTaskInstances")]
    assert [(body["dag_run_id"], body["dry_run"]) for body in cleared] == [
        (RUN["dag_run_id"], True),
        (RUN["dag_run_id"], False),
    ]
