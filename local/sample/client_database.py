"""`python -m local.sample.client_database PATH`: the local stack's clients, in SQLite, in the tables of the query.

On AWS the same tables are in SQL Server (spec: archive). Content depends on the arguments alone, so two
machines, and two runs, have the same clients.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import NamedTuple

DEFAULT_CLIENTS = 300
DEFAULT_ELIGIBLE_SHARE = 0.4
MAX_CLIENTS = 20_000

# Whose answer the partner stubs break on purpose; eligible in every database with an eligible share above 0.
BROKEN_CLIENT_ID = 1091
_BROKEN_INDEX = 13

ARCHIVED_SERVICES = (2, 3, 4, 5, 8)
OTHER_SERVICES = (1, 6, 7, 9, 12)

_SCHEMA = """
CREATE TABLE Client (
    ClientID INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    CountryCode TEXT NOT NULL,
    Status TEXT NOT NULL,
    OAuth2ClientCredentialsID INTEGER,
    CreatedAt TEXT NOT NULL
);
CREATE TABLE ClientServiceExt (
    ClientServiceExtID INTEGER PRIMARY KEY,
    ClientID INTEGER NOT NULL REFERENCES Client (ClientID),
    ServiceID INTEGER NOT NULL,
    ActiveFrom TEXT NOT NULL,
    UNIQUE (ClientID, ServiceID)
);
"""


class _Client(NamedTuple):
    """One row of Client, and the services that go to ClientServiceExt."""

    client_id: int
    name: str
    country: str
    status: str
    credentials_id: int | None
    created: str
    services: tuple[int, ...]


def create_client_database(
    path: Path, *, clients: int = DEFAULT_CLIENTS, eligible_share: float = DEFAULT_ELIGIBLE_SHARE
) -> None:
    """Write the database with `clients` rows, of which the pipeline selects about `eligible_share` (0 to 1).

    Every third eligible client has several matching services, so a query without DISTINCT returns it more
    than once. The others are left out because they lack credentials, have other services only, or none.
    The file appears as a whole or not at all and replaces an earlier one; its folder is created.

    Raises ValueError for a number of clients or a share that cannot be had, OSError if the file cannot be
    written.
    """
    if not 0 <= clients <= MAX_CLIENTS:
        raise ValueError(f"clients must be 0 to {MAX_CLIENTS}, not {clients}")
    if not 0 <= eligible_share <= 1:
        raise ValueError(f"eligible_share must be 0 to 1, not {eligible_share}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, list(_clients(clients, Fraction(str(eligible_share)))))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(path: Path, clients: list[_Client]) -> None:
    services = [(client.client_id, service, client.created) for client in clients for service in client.services]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SCHEMA)
        connection.executemany("INSERT INTO Client VALUES (?, ?, ?, ?, ?, ?)", [each[:6] for each in clients])
        connection.executemany(
            "INSERT INTO ClientServiceExt (ClientID, ServiceID, ActiveFrom) VALUES (?, ?, ?)", services
        )
        connection.commit()


def _clients(number: int, share: Fraction) -> Iterator[_Client]:
    eligible_before = left_out_before = 0
    for index in range(number):
        # Evenly spread, and counted from the broken client, so that it is eligible whatever the share.
        distance = index - _BROKEN_INDEX
        eligible = ceil((distance + 1) * share) > ceil(distance * share)
        if eligible:
            credentials, services = True, _archived_services(eligible_before)
            eligible_before += 1
        else:
            credentials, services = _left_out(left_out_before)
            left_out_before += 1
        yield _Client(
            client_id=1000 + 7 * index,
            name=company_name(index),
            country=COUNTRIES[index % len(COUNTRIES)],
            status="suspended" if index % 29 == 28 else "active",
            credentials_id=500 + index if credentials else None,
            created=f"{2014 + index % 11}-{1 + index % 12:02}-{1 + index % 28:02}",
            services=services,
        )


def _archived_services(eligible_before: int) -> tuple[int, ...]:
    """Return one matching service, several for every third client, and for some another one besides."""
    first = eligible_before % len(ARCHIVED_SERVICES)
    number = 2 + eligible_before % 4 if eligible_before % 3 == 0 else 1
    services = [ARCHIVED_SERVICES[(first + step) % len(ARCHIVED_SERVICES)] for step in range(number)]
    if eligible_before % 4 == 1:
        services.append(OTHER_SERVICES[first])
    return tuple(sorted(services))


def _left_out(left_out_before: int) -> tuple[bool, tuple[int, ...]]:
    """Return, in turn: no credentials but matching services; other services only; no services; neither."""
    turn, round_number = left_out_before % 4, left_out_before // 4
    other = OTHER_SERVICES[round_number % len(OTHER_SERVICES)]
    if turn == 0:
        return False, _archived_services(round_number)
    if turn == 1:
        return True, (other,)
    return turn == 2, ()


COUNTRIES = ("US", "DE", "FR", "PL", "GB", "NO", "ES", "JP")

# Quotes, commas, letters beyond ASCII and beyond the basic plane, markup, template braces, a path.
_AWKWARD = (
    "O'Brien & Sons Power, Ltd.",
    'The "Green Grid" Company',
    "Müller, Weiß & Partner Energie GmbH",
    "Électricité du Rhône, S.A.",
    "Łódzka Spółka Danych Sp. z o.o.",
    "東京データ電力株式会社",
    "Energía Ñandú, S.L.",
    "Šilutės Vėjas; Data UAB",
    "<Meter> & {{ Grid }} Labs",
    "Nordlys 100% Kraft \\ Data AS",
    "Solar 🌞 Analytics, Inc.",
    "L'Aquila Energia d'Abruzzo S.p.A.",
)
_PLACES = (
    "Alder", "Amber", "Atlas", "Baltic", "Beacon", "Birch", "Blue Ridge", "Boreal", "Brightwater", "Canyon",
    "Cascade", "Cedar", "Clearwater", "Coastal", "Copper", "Delta", "Eastern", "Elbe", "Evergreen", "Falcon",
    "Fjord", "Gulf", "Harbor", "Helios", "Highland", "Horizon", "Hudson", "Iron", "Juniper", "Keystone",
    "Lakeshore", "Liberty", "Lone Star", "Meridian", "Mistral", "Northern", "Oak", "Pacific", "Pioneer",
    "Polar", "Prairie", "Rhine", "Riverbend", "Sierra", "Silver", "Summit", "Tidal", "Union", "Vistula",
    "Westfield",
)  # fmt: skip
_TRADES = (
    "Power", "Energy Trading", "Wind", "Solar", "Grid Data", "Gas & Electric", "Metering", "Storage",
    "Renewables", "Load Analytics", "Transmission", "Utilities", "Hydro", "Demand Response", "Forecasting",
    "Energy Services", "Market Data", "Microgrids", "Retail Energy", "Carbon Data", "Balancing", "Biogas",
    "Charging", "Interconnect", "Heat Networks", "Asset Insight", "Cooperative", "Exchange", "Generation",
    "Telemetry", "Flexibility", "Geothermal", "Nuclear Data", "Offshore", "Procurement", "Weather",
    "Settlement", "Smart Homes", "Pipelines", "Peak Control",
)  # fmt: skip
_FORMS = ("Inc.", "LLC", "GmbH", "Ltd.", "AG", "S.A.", "AS", "Corp.", "plc", "B.V.", "Co.", "LP")
_AWKWARD_EVERY = 23


def company_name(index: int) -> str:
    """Return the name of the client number `index` (0 or more); no two below 20,000 are the same."""
    awkward, position = divmod(index, _AWKWARD_EVERY)
    if position == 0 and awkward < len(_AWKWARD):
        return _AWKWARD[awkward]
    # A number in three mixed digits: place, trade and form shift with each other, and no combination repeats.
    first, second, third = index % len(_PLACES), index // len(_PLACES), index // (len(_PLACES) * len(_TRADES))
    trade = (second + 3 * first) % len(_TRADES)
    form = (third + first + trade) % len(_FORMS)
    return f"{_PLACES[first * 7 % len(_PLACES)]} {_TRADES[trade]} {_FORMS[form]}"


def main() -> None:
    """Parse the arguments and write the database; bad values end with status 2 and a sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m local.sample.client_database", description="Write the sample client database."
    )
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
