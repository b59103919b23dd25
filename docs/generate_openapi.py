"""Writes docs/openapi/*.json from the code of the APIs, and what the events API serves of its document.

``python docs/generate_openapi.py`` writes the files; with ``--check`` it exits 1 when one is not current.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "openapi"
SERVED = ROOT / "lambdas" / "events_api"


def render() -> Mapping[Path, str]:
    """The files' texts."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from lambdas.tools.docs_page import page
    from lambdas.tools.openapi import events_document, orders_document

    events = events_document()
    return {
        OUTPUT / "events_api.json": _json(events, indent=2),
        OUTPUT / "orders_api.json": _json(orders_document(), indent=2),
        SERVED / "openapi.json": _json(events, separators=(",", ":")),
        SERVED / "docs.html": page(events),
    }


def _json(document: Mapping[str, object], **form: Any) -> str:
    return json.dumps(document, ensure_ascii=False, **form) + "\n"


def main() -> int:
    """Write the files or check them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not current")
    options = parser.parse_args()
    stale = 0
    for path, text in render().items():
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(ROOT)} is not current: run `make docs`", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
