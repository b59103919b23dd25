"""`python -m benchmarks.parse_once FILE`: parse one DAG file as a task does; prints the time as JSON, in ms."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> int:
    """Parse the file named by the first argument; returns 1 if it does not define exactly one DAG."""
    # What a task's process has imported before it parses.
    import airflow.sdk.execution_time.task_runner
    from airflow.dag_processing.dagbag import BundleDagBag

    file = Path(sys.argv[1])
    began = time.monotonic()
    bag = BundleDagBag(dag_folder=file, safe_mode=False, load_op_links=False, bundle_path=file.parent)
    parsed_ms = 1000 * (time.monotonic() - began)
    if list(bag.dags) != [file.stem]:
        print(f"error: {file} defines {list(bag.dags)}: {bag.import_errors}", file=sys.stderr)
        return 1
    print(json.dumps({"dag_file_parse_ms": round(parsed_ms, 1), "version": airflow.__version__}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
