"""`python -m tests.chaos`: a campaign of load and faults on a stack of its own, and a reconciliation of everything.

Prints tables, and ends with 0 only if nothing was lost, nothing is stuck, and nothing is doubled beyond what the
contract allows: an event or a batch may arrive twice under its id. With `--plant`, it ends with 0 only if the planted
fault was found.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from local.processes.layout import LOOPBACK, PROJECT_ROOT, StackSecrets, choose_ports
from local.services.airflow import EXECUTORS, Executor, Places, airflow_variables
from local.stack.control import StackOptions, running_stack
from tests.chaos import plants
from tests.chaos.aws import AwsProxy
from tests.chaos.campaign import Campaign
from tests.chaos.reconciliation import Reconciliation, report
from tests.worlds.live.pipeline import far_schedules

_AWS_VARIABLES = ("AWS_ENDPOINT_URL", "AIRFLOW_CONN_AWS_DEFAULT", "AIRFLOW__SECRETS__BACKEND_KWARGS")

AIRFLOW_OPTIONS = {
    # A lost task is missed after so many seconds, not after the minute of the shipped options.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "20",
    # Tokens of a process whose clock is wrong.
    "AIRFLOW__API_AUTH__JWT_LEEWAY": "120",
    **far_schedules(),
}


PAGE = """# Faults on purpose

Campaign of {now:%Y-%m-%d %H:%M} UTC. `make chaos MINUTES=120 FIGURES=benchmarks/CHAOS.md` writes this page; its last
line says for how long there were faults, and how busy the machine was.

Recovery: seconds from the beginning of a fault to the next progress after its end, of the pipeline that it met, or of
the last one to go on if it met all. The load has pauses of its own: 30 s between two days of the archive, 45 s between
two auctions.

Reconciliation: what the load asked for, beside what was stored, posted and alerted. *Lost* is what was neither done nor
alerted, *told* what people got an alert of, *told again* how many of these alerts came once more. An event, a
batch or an alert may be doubled, under its id; nothing else.

```text
{figures}
```
"""

PATIENCE_SECONDS = 1200.0
"""For which everything may take to come to rest after the last fault: leases, retries and time limits end."""


def run(
    directory: Path,
    *,
    minutes: float,
    seed: int,
    executor: Executor,
    console: Console,
    patience: float = PATIENCE_SECONDS,
    figures: Path | None = None,
    aim: str | None = None,
) -> bool:
    """Run a campaign on a stack of its own; whether nothing was lost, stuck, or doubled where it must not be.

    Args:
        directory: for the state and the logs of the stack.
        minutes: for how long there are load and faults.
        patience: seconds that everything may then take to come to rest.
        figures: Markdown file to write the figures to as well.
        aim: id of a task that the faults of a single task wait for and meet, or a service of AWS.
    """
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {text}", markup=False, soft_wrap=True)

    ports = choose_ports("emulator", "proxy")
    aws = AwsProxy(f"http://{LOOPBACK}:{ports['emulator']}", ports["proxy"], seed)
    places = Places(PROJECT_ROOT, "", "", aws.url, "", "")
    through = {name: airflow_variables(places, StackSecrets())[name] for name in _AWS_VARIABLES}
    options = StackOptions(
        state_directory=directory / "stack",
        aws_port=ports["emulator"],
        executor=executor,
        airflow_options=AIRFLOW_OPTIONS | through,
    )
    celery = executor == "CeleryExecutor"
    with (
        aws.listening(),
        running_stack(options) as stack,
        closing(Campaign(stack, aws, directory, seed=seed, celery=celery, tell=tell, aim=aim)) as campaign,
    ):
        campaign.run(minutes * 60)
        tell("no more load and no more faults; waiting until all is quiet")
        reconciliation = Reconciliation(campaign)
        stuck = reconciliation.wait_until_quiet(patience)
        tell("quiet" if not stuck else f"{len(stuck)} things did not come to rest")
        console.record = figures is not None
        sound = report(campaign, reconciliation, stuck, console)
    calls = ", ".join(f"{aws.calls[service]:,} {service}" for service in sorted(aws.calls) if service)
    console.print(f"AWS calls through the proxy: {calls}; spoilt: {sum(aws.spoilt.values()):,}")
    load = os.getloadavg()[0]
    console.print(f"seed {seed}, {minutes:g} minutes of faults, {executor}, load average at the end {load:.1f}")
    if figures is not None:
        figures.write_text(PAGE.format(now=datetime.now(UTC), figures=console.export_text().rstrip()))
    return sound


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long there are faults (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of load and faults (default: 1)")
    parser.add_argument("--executor", choices=EXECUTORS, default=EXECUTORS[0], help="what runs the tasks")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        help="seconds that all may take to come to rest afterwards (default: %(default)g)",
    )
    parser.add_argument("--directory", type=Path, help="to keep state and logs of the stack in")
    parser.add_argument("--figures", type=Path, help="Markdown file to write the figures to as well")
    parser.add_argument("--aim", help="a task that the faults of one task wait for and meet, or a service of AWS")
    parser.add_argument("--plant", choices=plants.PLANTS, help="in a copy of the project, a fault that must be found")
    options = parser.parse_args(argv)
    asked, console = vars(options), Console(highlight=False, width=110)
    if (name := asked.pop("plant")) is None:
        directory = asked.pop("directory")
        with tempfile.TemporaryDirectory() if directory is None else nullcontext(directory) as place:
            return 0 if run(Path(place), **asked, console=console) else 1
    given = {option: value for option, value in asked.items() if value is not None}
    found = plants.find(name, [part for option, value in given.items() for part in (f"--{option}", str(value))])
    said = f"found: the campaign ended with 1, and said: {found}" if found else "NOT found"
    console.print(f"the planted fault '{name}' was {said}", markup=False, soft_wrap=True)
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
