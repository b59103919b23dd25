"""The orders function beside a bare boto3 handler that does the same write: what its checks and its care cost."""

from __future__ import annotations

import json

from benchmarks.bench import Bench
from benchmarks.results import Part, in_times, medians_in_times, percentile, run_python
from local.processes.layout import PROJECT_ROOT, aws_environment, clean_environment

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
    # They are short.
    repeat = 2 * repeat + 1
    for _ in range(repeat):
        for module in (OURS, BARE):
            imports[module].append(float(run_python("-c", _TIMED_IMPORT, module, environment=environment)))
            called = json.loads(
                run_python("-m", "benchmarks.orders_calls", module, "--", "1:0", environment=environment)
            )
            first[module].append(called["first"][module])
    sizes = [f"{size}:{calls}" for size, calls in _CALLS]
    calls_of = ("-m", "benchmarks.orders_calls", OURS, BARE, "--", *sizes)
    warm = json.loads(run_python(*calls_of, environment=environment))["calls"]
    rows = [
        medians_in_times(what, values[OURS], values[BARE], "ms", digits=0, aim=aim)
        for what, values, aim in (
            (f"cold: import of the handler ({repeat} interpreters)", imports, _COLD_AT_MOST),
            (f"cold: the first call after it, one record ({repeat} interpreters)", first, None),
        )
    ]
    for size, calls in _CALLS:
        for share in (50, 99):
            what = f"warm, {size} record{'s' * (size > 1)} ({calls} calls): p{share}"
            ours, bare = (percentile(warm[module][str(size)], share) for module in (OURS, BARE))
            rows.append(in_times(what, f"{ours:.1f} ms", f"{bare:.1f} ms", ours / bare, aim=_WARM_AT_MOST))
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
