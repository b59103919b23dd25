"""Command line ``python -m ops`` (spec: operations, Command line)."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from include.errors import PipelineError
from ops import archive, call_details, events, evidence, evidence_adopt, evidence_export, runs
from ops.environment import LOCAL, Environment
from ops.report import OpsError, Report

_EPILOG = """\
examples, in the project's folder:
  .venv/bin/python -m ops runs energy_auction                what ran lately
  .venv/bin/python -m ops failed                             tasks that failed, with their reasons
  .venv/bin/python -m ops day 2026-03-02                     what became of each client
  .venv/bin/python -m ops day 2026-03-02 --client 1000       one answer, its versions and digests
  .venv/bin/python -m ops files                              files of call details and their progress
  .venv/bin/python -m ops owner me                           events of an owner
  .venv/bin/python -m ops dead-letters list
  .venv/bin/python -m ops evidence verify --from 2026-03-01
  .venv/bin/python -m ops evidence export --client 1000 --day 2026-03-02
  .venv/bin/python -m ops dead-letters replay --dry-run
  .venv/bin/python -m ops --environment prod --json failed | jq '.rows[].reason'

Without --environment (or the variable ENVIRONMENT) it is the local stack, and nothing reaches an account.
"""

Command = Callable[[Environment, argparse.Namespace], Report | str]

_EXIT_INTERRUPTED = 130


def main(
    argv: Sequence[str] | None = None, *, open_environment: Callable[[str], Environment] = Environment.open
) -> int:
    """Run one command, with the process's arguments if there are none; ``open_environment`` finds one by its name.

    Returns:
        the exit code: 0 if all is well, 1 if what was asked for is missing or failed, 2 for a wrong command line, 130
        if it was interrupted.
    """
    options = _parser().parse_args(argv)
    run: Command = options.run
    try:
        if getattr(options, "checked", None):
            return _print(evidence_export.check(options.checked), options)
        environment = open_environment(options.environment)
        with environment.http:
            report = run(environment, options)
        return _print(report, options)
    except (OpsError, PipelineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read, such as `head`, has enough. Python would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _print(report: Report | str, options: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names in any language, on a terminal of any encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(report, str):
        print(report, flush=True)
        return 0
    report.write(as_json=options.json)
    sys.stdout.flush()
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops",
        description="See what the pipelines did, and repeat it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--environment",
        default=os.environ.get("ENVIRONMENT") or LOCAL,
        metavar="NAME",
        help="local, dev, staging or prod (default: the variable ENVIRONMENT, else local)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for scripts instead of a table")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Command, text: str, *, to: Any = commands) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = to.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def dag(command: argparse.ArgumentParser, most: int) -> None:
        command.add_argument("dag", nargs="?", choices=runs.DAGS, metavar="DAG", help=f"one of {', '.join(runs.DAGS)}")
        command.add_argument(
            "--limit", type=_page, default=most, help=f"lines at most, up to {runs.PAGE} (default {most})"
        )

    dag(add("runs", lambda at, o: runs.runs(at, o.dag, limit=o.limit), "the latest runs, of one DAG or of all"), 10)
    dag(add("failed", lambda at, o: runs.failed(at, o.dag, limit=o.limit), "tasks that failed, with their reasons"), 20)

    day = add("day", _day, "what the archive has for a day")
    day.add_argument("day", type=_day_of, metavar="YYYY-MM-DD")
    day.add_argument("--client", type=int, metavar="ID", help="this client's answer, its versions and digests")

    about = "Airflow's own parts, DAG files that cannot be imported, DAGs that are paused"
    add("health", lambda at, o: runs.health(at), about)

    start = add("start", lambda at, o: runs.start(at, o.dag, o.params), "start a run")
    start.add_argument("dag", choices=runs.DAGS, metavar="DAG", help=f"one of {', '.join(runs.DAGS)}")
    start.add_argument("params", type=_object, nargs="?", default={}, metavar="JSON", help="the run's params")

    clear = add("clear", _clear, "repeat the failed tasks of a run, and what follows them; asks before")
    clear.add_argument("dag", choices=runs.DAGS, metavar="DAG", help=f"one of {', '.join(runs.DAGS)}")
    clear.add_argument("run_id", nargs="?", metavar="RUN", help="default: the latest failed run")
    _add_consent(clear, "only show the tasks")

    backfill = add("backfill", _backfill, "archive each day of a range, both ends included; asks before")
    backfill.add_argument("first", type=_day_of, metavar="FIRST", help="first day, such as 2026-03-01")
    backfill.add_argument("last", type=_day_of, metavar="LAST", help="last day, included")
    backfill.add_argument("--again", action="store_true", help="also days whose run has succeeded")
    backfill.add_argument("--client", type=int, action="append", metavar="ID", help="only this client; may be repeated")
    _add_consent(backfill, "only show the days")

    add("files", lambda at, o: call_details.files(at), "files of call details: waiting, under way, done")

    owner = add("owner", lambda at, o: events.owner(at, o.owner), "an owner's events and webhook")
    owner.add_argument("owner", metavar="NAME")

    letters = add("dead-letters", lambda at, o: call_details.listed(at), "what could not be delivered")
    of_letters = letters.add_subparsers(metavar="list|show|replay")
    add("list", lambda at, o: call_details.listed(at), "what waits in both queues (the default)", to=of_letters)
    show = add("show", lambda at, o: call_details.shown(at, o.key), "the records of a batch", to=of_letters)
    show.add_argument("key", metavar="KEY", help="of its body, as 'list' names it")
    replay = add("replay", _replay, "post batches of call details again; asks before", to=of_letters)
    replay.add_argument("keys", nargs="*", metavar="KEY", help="only these, as 'list' names them (default: all)")
    replay.add_argument("--limit", type=_positive, default=1_000, help="batches at most (default 1,000)")
    _add_consent(replay, "only say what would be posted")

    proof = add("evidence", _verify, "prove that the archive is what was archived")
    proofs = proof.add_subparsers(metavar="verify|export|adopt", required=True)
    verify = add("verify", _verify, "read ledger, manifests and answers, and report what is not proven", to=proofs)
    verify.add_argument("--from", dest="first", type=_day_of, metavar="FIRST", help="first day")
    verify.add_argument("--to", dest="last", type=_day_of, metavar="LAST", help="last day, included")
    verify.add_argument("--client", type=int, metavar="ID", help="only this client")
    verify.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="note what is proven, and go on from there if it is interrupted"
    )
    export = add("export", _export, "a zip that proves a client's answers to somebody without access", to=proofs)
    export.add_argument("--client", type=int, metavar="ID", help="whose answers")
    export.add_argument("--day", type=_day_of, metavar="DAY", help="the day, or the first of a range")
    export.add_argument("--to", dest="last", type=_day_of, metavar="LAST", help="last day, included (default: DAY)")
    export.add_argument("--out", type=Path, metavar="FILE", help="default: evidence-<client>-<day>.zip")
    for command in (verify, export):
        command.add_argument("--bucket", metavar="NAME", help="the archive's, for who may read nothing but that")
    export.add_argument("--verify", dest="checked", type=Path, metavar="FILE", help="check a zip; needs no access")
    adopt = add("adopt", _adopt, "take answers of before the ledger into it, as they are; asks before", to=proofs)
    adopt.add_argument(
        "--added", action="append", default=[], metavar="KEY", help="also what 'verify' reports as added at this key"
    )
    adopt.add_argument("--yes", action="store_true", help="do not ask")

    output = add("output", lambda at, o: at.output(o.name), "a name or address that the application's stack gives")
    output.add_argument("name", metavar="NAME", help="such as ArchiveBucketName")
    log = add("log", lambda at, o: at.log(o.group, hours=o.hours), "messages of a log group, the oldest first")
    log.add_argument("group", metavar="GROUP", help="such as /aws/lambda/orders-api")
    log.add_argument("--hours", type=_positive, default=1, help="how far back (default: the last hour)")
    airflow = add("airflow", _airflow, "any call of Airflow's REST API")
    airflow.add_argument("method", choices=("GET", "POST", "PATCH", "PUT", "DELETE"), metavar="METHOD")
    airflow.add_argument("path", type=_path, metavar="PATH", help="below /api/v2, such as /dags/energy_auction")
    airflow.add_argument("body", type=_object, nargs="?", metavar="JSON")
    return parser


def _day(environment: Environment, options: argparse.Namespace) -> Report:
    if options.client is None:
        return archive.day(environment, options.day)
    return archive.answer(environment, options.day, options.client)


def _clear(environment: Environment, options: argparse.Namespace) -> Report:
    # Found once: until somebody has agreed, another run may have failed.
    run_id = options.run_id or runs.latest_failed(environment, options.dag)
    if run_id is None:
        return Report(f"no run of {options.dag} has failed", {"task": "task"}, ())
    plan = runs.clear(environment, options.dag, run_id, dry_run=True)
    if options.dry_run or not plan.rows:
        return plan
    some = "1 task" if len(plan.rows) == 1 else f"{len(plan.rows):,} tasks"
    _agree(options, f"Clear {some} of run {run_id} of {options.dag} in {environment.name}?", plan)
    return runs.clear(environment, options.dag, run_id, dry_run=False)


def _backfill(environment: Environment, options: argparse.Namespace) -> Report:
    plan = archive.backfill(environment, options.first, options.last, options.client, again=options.again, dry_run=True)
    if options.dry_run or not plan.rows:
        return plan
    _agree(options, f"Start {len(plan.rows)} runs in {environment.name}?", plan)
    return archive.backfill(
        environment, options.first, options.last, options.client, again=options.again, dry_run=False
    )


def _verify(environment: Environment, options: argparse.Namespace) -> Report:
    if options.first and options.last and options.last < options.first:
        raise OpsError(f"{options.last} is before {options.first}")
    scope = evidence.Scope(options.first, options.last, options.client)
    return evidence.verify(environment, scope, bucket=options.bucket, checkpoint=options.checkpoint, tell=_tell)


def _export(environment: Environment, options: argparse.Namespace) -> Report:
    if options.client is None or options.day is None:
        raise OpsError("name what to export: --client and --day, or a zip to check: --verify")
    target = options.out or Path(f"evidence-{options.client}-{options.day}.zip")
    last = options.last or options.day
    return evidence_export.export(environment, options.client, options.day, last, target, bucket=options.bucket)


def _adopt(environment: Environment, options: argparse.Namespace) -> Report:
    return evidence_adopt.adopt(
        environment, added=options.added, agree=lambda question: _agree(options, question), tell=_tell
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _airflow(environment: Environment, options: argparse.Namespace) -> str:
    return json.dumps(environment.airflow(options.method, options.path, body=options.body), indent=2)


def _replay(environment: Environment, options: argparse.Namespace) -> Report:
    return call_details.replayed(
        environment,
        options.keys,
        limit=options.limit,
        dry_run=options.dry_run,
        agree=lambda question: _agree(options, question),
        tell=_tell,
    )


def _add_consent(command: argparse.ArgumentParser, dry_run: str) -> None:
    command.add_argument("--dry-run", action="store_true", help=dry_run)
    command.add_argument("--yes", action="store_true", help="do not ask")


def _agree(options: argparse.Namespace, question: str, plan: Report | None = None) -> None:
    """Ask a person, who is shown the plan; raises OpsError if the answer is no, or there is nobody to ask."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise OpsError(f"{question} Nobody can be asked here: add --yes")
    if plan is not None:
        plan.write(as_json=False, file=sys.stderr)
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        print(file=sys.stderr)
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise OpsError("nothing was changed")


def _day_of(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write it as 2026-03-02") from None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _page(text: str) -> int:
    if (number := _positive(text)) > runs.PAGE:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {runs.PAGE}, which is what Airflow gives at once")
    return number


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise argparse.ArgumentTypeError("must begin with /, such as /dags/energy_auction")
    return text


def _no_constant(name: str) -> None:
    # Python reads and writes them, and nobody else does.
    raise ValueError(f"{name} is no number of JSON")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError('must be a JSON object, such as {"trigger_date": "2026-03-02"}')
    return found


if __name__ == "__main__":
    sys.exit(main())
