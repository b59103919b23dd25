"""`make deploy ENV=...`: one environment, from the tree as it is to DAGs that run.

    python -m infra.release.deploy dev|staging|prod [--dry-run] [--approved]

Every step finds out by itself whether there is anything to do, so a deployment that was cut off is simply started
again, and a second one changes nothing and says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from infra.release.bundle import ReleaseError
from infra.release.deployment.mwaa import Airflow, BundleBucket
from infra.release.deployment.stacks import Stacks
from infra.release.deployment.steps import Commands, Deployment, Places, describe_tree
from infra.release.deployment.target import ENVIRONMENTS, Target, read_target

ROOT = Path(__file__).resolve().parents[2]
PLACES = Places(
    sam=ROOT / ".venv-aws" / "bin" / "sam",
    sam_config=ROOT / "infra" / "samconfig.toml",
    application_template=ROOT / "infra" / "template.yaml",
    airflow_template=ROOT / "infra" / "mwaa.yaml",
    build=ROOT / ".aws-sam" / "deploy",
    bundle=ROOT / "dist",
)
UNKNOWN_ACCOUNT = "<account>"
"""Stands for the account id in a dry run, which asks AWS nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 refused or failed, 2 called wrongly."""
    options = _parser().parse_args(arguments)
    commands = Commands(ROOT, command_environment(os.environ))
    try:
        target = read_target(PLACES.sam_config, options.environment)
        deploy(target, PLACES, commands, boto3.Session(region_name=target.region), options)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"error: AWS refused or could not be reached: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError) as error:
        if isinstance(error, BrokenPipeError):
            # Nobody reads any more, as after `head`. Python would try once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("stopped; AWS goes on with what it has begun. Deploy again to go on from there", file=sys.stderr)
        return 1
    return 0


def deploy(
    target: Target,
    places: Places,
    commands: Commands,
    session: boto3.Session,
    options: argparse.Namespace,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Deploy to a target, or tell what would be done; returns the names of what was changed.

    The options are `dry_run` and `approved`, as the command line has them; `sleep` waits for so many seconds.

    Raises:
        ReleaseError: refused (nothing was changed), or failed (the text says what to do).
        ClientError: AWS refused a call.
    """
    tree = describe_tree(commands, must_be_clean=target.is_production)
    if not options.dry_run and target.is_production and not options.approved and not sys.stdin.isatty():
        raise ReleaseError("prod wants a person who agrees: run it in a terminal, or say that one has (APPROVED=1)")
    account = UNKNOWN_ACCOUNT if options.dry_run else check_account(session, target)
    deployment = assemble(target, account, places, commands, session, approved=options.approved, sleep=sleep)
    if not options.dry_run:
        check_alone(deployment.stacks, target)
    verb = "Would deploy" if options.dry_run else "Deploying"
    _say(f"{verb} {tree} to {target.environment} (account {account}, {target.region})")
    steps = deployment.steps()
    for number, step in enumerate(steps, start=1):
        _say(f"{number}/{len(steps)} {step.title}")
        for detail in step.details:
            _say(f"    {detail}")
        if not options.dry_run:
            step.run()
    if options.dry_run:
        _say("Dry run: nothing was changed.")
    elif deployment.changed:
        _say(f"Deployed to {target.environment}: {', '.join(deployment.changed)}.")
    else:
        _say(f"Nothing to do: {target.environment} has all of this already.")
    return deployment.changed


def check_account(session: boto3.Session, target: Target) -> str:
    """The account of the credentials (12 digits).

    Raises:
        ReleaseError: there are none, they are not accepted, or the target wants another account.
    """
    # boto3's stubs are installed for the services that the pipelines call; the others' clients are untyped.
    create: Callable[..., Any] = session.client
    try:
        account = str(create("sts").get_caller_identity()["Account"])
    except NoCredentialsError as error:
        raise ReleaseError("there are no AWS credentials: sign in (aws sso login), or set AWS_PROFILE") from error
    except ClientError as error:
        raise ReleaseError(f"AWS did not accept the credentials ({error}): sign in again") from error
    if target.account not in (None, account):
        raise ReleaseError(
            f"these credentials are for account {account}, and {target.environment} is account {target.account} "
            "(infra/samconfig.toml): sign in there, or set AWS_PROFILE"
        )
    return account


def check_alone(stacks: Stacks, target: Target) -> None:
    """Make sure that no other environment has the names that this one would take.

    Raises:
        ReleaseError: one has.
    """
    for name in target.others:
        try:
            there = stacks.outputs(name) is not None
        except ClientError as error:
            # Whoever deploys by a role of his own may have no right to look.
            if error.response["Error"]["Code"] != "AccessDenied":
                raise
            continue
        if there:
            raise ReleaseError(
                f"the stack {name} is in this account and region, and its secrets and functions have the names that "
                f"those of {target.environment} would have. Give each environment an account or a region of its own: "
                "sign in there, or change the region (infra/samconfig.toml)"
            )


def assemble(
    target: Target,
    account: str,
    places: Places,
    commands: Commands,
    session: boto3.Session,
    *,
    approved: bool,
    sleep: Callable[[float], None],
) -> Deployment:
    """A deployment with clients of its own; no call is made."""
    create: Callable[..., Any] = session.client
    confirm = _ask if target.is_production and not approved else None
    return Deployment(
        target=target,
        account=account,
        places=places,
        commands=commands,
        stacks=Stacks(
            cloudformation=session.client("cloudformation"),
            say=_say,
            confirm=confirm or (lambda _: True),
            clock=time.monotonic,
            sleep=sleep,
            tags=target.tags,
        ),
        bucket=BundleBucket(session.client("s3"), target.source_bucket(account)),
        airflow=Airflow(create("mwaa"), create("logs"), target.airflow_name, target.scheduler_log_group),
        confirm=confirm,
        say=_say,
    )


def command_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment variables, with the project's programs first on the path (SAM wants python3.12)."""
    ours = [str(ROOT / ".venv-aws" / "bin"), str(Path(sys.executable).parent)]
    return {**base, "PATH": os.pathsep.join([*ours, base.get("PATH", os.defpath)]), "SAM_CLI_TELEMETRY": "0"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.release.deploy",
        description="Deploy the pipelines to one environment: application, bundle, Airflow, DAGs. Run it again at any "
        "time: what is there already is left alone.",
    )
    parser.add_argument("environment", choices=ENVIRONMENTS, help="where to (its sections in infra/samconfig.toml)")
    parser.add_argument("--dry-run", action="store_true", help="print every step, and change nothing")
    parser.add_argument("--approved", action="store_true", help="a person has agreed: do not ask before prod changes")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


def _ask(question: str) -> bool:
    try:
        return input(f"    {question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


if __name__ == "__main__":
    sys.exit(main())
