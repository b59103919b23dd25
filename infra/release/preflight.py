"""Checks what makes a slow update of MWAA's environment fail, before it begins.

``python -m infra.release.preflight [--project DIR] [--environment dev|staging|prod]``: prints for each check that it
holds, or what is wrong and what to change, for one environment or for all of them; ends with 0 only if all hold. It
reads the project alone, and nobody on the network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from infra.release.bundle import ReleaseError
from infra.release.checks import loading, requirements
from infra.release.checks.budgets import budgets
from infra.release.project import ENVIRONMENTS, Finding, MissingFactError, Project, UndecidedError, bad, read_projects

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = (requirements, loading)
UNREADABLE = "preflight/facts"


def run_checks(project: Project) -> list[Finding]:
    """All findings by check, in the checks' order; raises ReleaseError if a file that several read is malformed."""
    checks = [*(check for family in FAMILIES for check in family.CHECKS), *budgets(project)]
    found = [finding for check in checks for finding in _run(check, project)]
    order = list(dict.fromkeys(finding.check for finding in found))
    return sorted(found, key=lambda finding: order.index(finding.check))


def _run(check: Callable[[Project], Iterable[Finding]], project: Project) -> list[Finding]:
    found: list[Finding] = []
    try:
        # One by one: what came before an error is kept.
        for finding in check(project):
            found.append(finding)
    except MissingFactError as error:
        found.append(bad(UNREADABLE, error.where, f"is missing, and {check.__module__} compares it", error.change))
    except UndecidedError:
        # The file that it would read from cannot be loaded, which has a finding of its own.
        return found
    return found


def report(findings: Sequence[Finding], *, verbose: bool) -> str:
    """The findings, each check's together, for people; ``verbose``: also what the checks that hold have compared."""
    lines = []
    for name, group in groupby(findings, key=lambda finding: finding.check):
        of_check = list(group)
        wrong = [finding for finding in of_check if not finding.ok]
        if wrong:
            lines.append(f"WRONG {name}")
        else:
            only = f": {of_check[0].message}" if len(of_check) == 1 and not verbose else ""
            lines.append(f"ok    {name} ({len(of_check)}){only}")
        for finding in wrong:
            lines += [f"      {finding.where}: {finding.message}", f"      -> {finding.change}"]
        if verbose:
            lines += [f"      {finding.where}: {finding.message}" for finding in of_check if finding.ok]
    wrong_in_all = sum(not finding.ok for finding in findings)
    lines.append(
        f"{wrong_in_all} of {len(findings)} comparisons are wrong" if wrong_in_all else f"all {len(findings)} hold"
    )
    return "\n".join(lines)


def main(
    arguments: Sequence[str] | None = None,
    *,
    read: Callable[[Path, Sequence[str]], list[Project]] = read_projects,
) -> int:
    """The command line; returns 0 if all is well, 1 if something is to be changed, 2 if nothing could be checked."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.release.preflight",
        description="Check what makes an update of the environment fail on AWS; says what to change.",
    )
    parser.add_argument("--project", type=Path, default=ROOT, metavar="DIR", help="root of the project (this one)")
    parser.add_argument(
        "--environment",
        choices=ENVIRONMENTS,
        help="whose parameters of infra/samconfig.toml count (each environment's in turn)",
    )
    parser.add_argument("--verbose", action="store_true", help="also print what the checks that hold have compared")
    options = parser.parse_args(arguments)
    root = options.project.resolve()
    environments = [options.environment] if options.environment else ENVIRONMENTS
    try:
        found = {project.environment: run_checks(project) for project in read(root, environments)}
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for environment, findings in found.items():
        print(f"== {environment}")
        print(report(findings, verbose=options.verbose))
    return int(any(not finding.ok for findings in found.values() for finding in findings))


if __name__ == "__main__":
    raise SystemExit(main())
