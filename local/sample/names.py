"""Company names for sample data: plausible, all different, and some with what breaks careless code."""

from __future__ import annotations

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
