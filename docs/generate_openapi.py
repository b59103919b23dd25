"""Writes docs/openapi/orders_api.json from the orders API's code.

``python docs/generate_openapi.py`` writes the file; with ``--check`` it exits 1 when the file is not current.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "openapi" / "orders_api.json"


def render() -> str:
    """The file's text."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from lambdas.tools.orders_openapi import document

    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file or check it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is not current")
    options = parser.parse_args()
    text = render()
    if not options.check:
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(text, encoding="utf-8")
        return 0
    if OUTPUT.exists() and OUTPUT.read_text(encoding="utf-8") == text:
        return 0
    print(f"{OUTPUT.relative_to(ROOT)} is not current: run `make docs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
