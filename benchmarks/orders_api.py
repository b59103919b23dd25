"""The orders function beside a bare boto3 handler that does the same write: what its checks and its care cost."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.results import Comparison, Part, median_and_range, percentile
from local.processes.layout import PROJECT_ROOT, PYTHON, aws_environment, clean_environment

FUNCTION = "orders-api"
OURS, BARE = "lambdas.orders_api.handler", "benchmarks.functions.bare_orders"

_CALLS = ((1, 400), (25, 200), (500, 40))
"""Records in a request, and how many such requests."""

_COLD_AT_MOST = 2.0
_WARM_AT_MOST = 1.3

_TIMED_IMPORT = (
    "import importlib, sys, time; began = time.perf_counter(); importlib.import_module(sys.argv[1]); "
    "print(1000 * (time.perf_counter() - began))"
)


def measure_orders_api(bench: Bench, *, repeat: int) -> Part:
    """Import time in fresh interpreters, in turns; then warm calls in one process, in turns."""
    deployed = bench.stack.aws("lambda").get_function_configuration(FunctionName=FUNCTION)
    environment = {
        **clean_environment(),
        **aws_environment(bench.stack.aws_endpoint_url),
        **deployed["Environment"]["Variables"],
        "PYTHONPATH": str(PROJECT_ROOT),
    }
    imports: dict[str, list[float]] = {OURS: [], BARE: []}
    first: dict[str, list[float]] = {OURS: [], BARE: []}
    for _ in range(repeat):
        for module in (OURS, BARE):
            imports[module].append(float(_python(environment, "-c", _TIMED_IMPORT, module)))
            called = json.loads(_python(environment, "-m", "benchmarks.orders_calls", module, "--", "1:0"))
            first[module].append(called["first"][module])
    sizes = [f"{size}:{calls}" for size, calls in _CALLS]
    warm = json.loads(_python(environment, "-m", "benchmarks.orders_calls", OURS, BARE, "--", *sizes))["calls"]
    rows = [
        _cold(f"cold: import of the handler ({repeat} interpreters)", imports, aim=_COLD_AT_MOST),
        _cold(f"cold: the first call after it, one record ({repeat} interpreters)", first),
    ]
    for size, calls in _CALLS:
        ours, bare = warm[OURS][str(size)], warm[BARE][str(size)]
        rows += [
            _warm(f"warm, {size} record{'s' * (size > 1)} ({calls} calls): p50", ours, bare, 50, aim=_WARM_AT_MOST),
            _warm(f"warm, {size} record{'s' * (size > 1)} ({calls} calls): p99", ours, bare, 99, aim=_WARM_AT_MOST),
        ]
    return Part(
        "orders_api",
        "The orders function called in its own process, with the emulator's DynamoDB behind it, beside a handler that "
        "does the same write the way boto3's documentation shows it (benchmarks/functions/bare_orders.py: json.loads, "
        "batch_writer; no routing, checks, logs or metrics). Each makes its client while it is "
        "imported. Warm calls take turns in one process. Most of a call is the emulator's answer to BatchWriteItem, "
        "as on AWS it would be DynamoDB's.",
        rows,
        {"import_ms": imports, "first_call_ms": first, "warm_ms": warm},
    )


def _cold(what: str, values: dict[str, list[float]], *, aim: float | None = None) -> Comparison:
    ratio = statistics.median(values[OURS]) / statistics.median(values[BARE])
    ours, bare = (median_and_range(values[module], "ms", digits=0) for module in (OURS, BARE))
    return _comparison(what, ours, bare, ratio, aim)


def _warm(what: str, ours: Sequence[float], bare: Sequence[float], share: int, *, aim: float) -> Comparison:
    mine, theirs = percentile(ours, share), percentile(bare, share)
    return _comparison(what, f"{mine:.1f} ms", f"{theirs:.1f} ms", mine / theirs, aim)


def _comparison(what: str, ours: str, bare: str, ratio: float, aim: float | None) -> Comparison:
    met = None if aim is None else ratio <= aim
    return Comparison(what, ours, bare, f"{ratio:.2f} times", f"at most {aim:g} times" if aim else "", met)


def _python(environment: dict[str, str], *arguments: str) -> str:
    """The last line that a Python of its own prints; the lines before are the functions' logs."""
    done = subprocess.run(
        [PYTHON, *arguments], cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()[-1]
