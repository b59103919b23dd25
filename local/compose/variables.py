"""Secrets that the commands of docker-compose.yaml are given in their environment."""

from __future__ import annotations

import argparse
import os


def required(parser: argparse.ArgumentParser, *names: str) -> list[str]:
    """The values of these environment variables; one that is missing or empty ends the command with status 2."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        parser.error(f"not in the environment: {', '.join(missing)} (docker-compose.yaml takes them from .env)")
    return [os.environ[name] for name in names]
