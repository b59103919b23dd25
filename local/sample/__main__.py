"""`python -m local.sample PATH [--clients N] [--eligible-share S]`: write the sample client database."""

from __future__ import annotations

import argparse
from pathlib import Path

from local.sample.client_database import DEFAULT_CLIENTS, DEFAULT_ELIGIBLE_SHARE, create_client_database


def main() -> None:
    """Parse the arguments and write the database; bad values end with status 2 and a sentence."""
    parser = argparse.ArgumentParser(prog="python -m local.sample", description="Write the sample client database.")
    parser.add_argument("path", type=Path, help="SQLite file to write; replaced if it exists")
    parser.add_argument("--clients", type=int, default=DEFAULT_CLIENTS, help="rows in Client (default %(default)s)")
    parser.add_argument(
        "--eligible-share",
        type=float,
        default=DEFAULT_ELIGIBLE_SHARE,
        help="share of them that the pipeline's query selects, 0 to 1 (default %(default)s)",
    )
    arguments = parser.parse_args()
    try:
        create_client_database(arguments.path, clients=arguments.clients, eligible_share=arguments.eligible_share)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
