"""Writes docs/openapi/*.json from the code of the APIs, and what the events API serves of its document.

``python docs/generate_openapi.py`` writes the files; with ``--check`` it exits 1 when one is not current.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "openapi"
SERVED = ROOT / "lambdas" / "events_api"


def render() -> Mapping[Path, str]:
    """The files' texts."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
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


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #c9d1dc}h3{margin-top:2rem}code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#f3f5f8;padding:.75rem;overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e3e7ed}
b.method{color:#0b5cad}summary{cursor:pointer}a{color:#0b5cad}
@media(prefers-color-scheme:dark){body{color:#e3e7ed;background:#14181f}pre{background:#1f2630}
h2,th,td{border-color:#39424f}a,b.method{color:#7db7f0}}
"""


def page(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as one static page for people: without scripts, and without anything from elsewhere."""
    info = document["info"]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
            '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
            *_keys(document),
            *(line for tag in document["tags"] for line in _tag(document, tag)),
            "<h2>Schemas</h2>",
            *(_details(name, schema, anchor=name) for name, schema in document["components"]["schemas"].items()),
            "</body></html>\n",
        )
    )


def _keys(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Keys</h2><ul>"
    for scheme in document["components"]["securitySchemes"].values():
        where = f"Header <code>{escape(scheme.get('name', 'Authorization'))}</code>"
        yield f"<li>{where}: {escape(scheme['description'])}</li>"
    yield "</ul>"


def _tag(document: Mapping[str, Any], tag: Mapping[str, str]) -> Iterator[str]:
    yield f"<h2>{escape(tag['name'].title())}</h2><p>{escape(tag['description'])}</p>"
    for kind in ("paths", "webhooks"):
        for path, item in document.get(kind, {}).items():
            for method, operation in item.items():
                if method != "parameters" and tag["name"] in operation["tags"]:
                    yield from _operation(document, method, path, operation, item.get("parameters", []))


def _operation(
    document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any], of_path: list[Any]
) -> Iterator[str]:
    yield f'<h3 id="{operation["operationId"]}"><b class="method">{method.upper()}</b> <code>{escape(path)}</code></h3>'
    yield f"<p><b>{escape(operation['summary'])}.</b> {escape(operation.get('description', ''))}</p>"
    if operation.get("security") == []:
        yield "<p>Needs no key.</p>"
    if parameters := [*of_path, *operation.get("parameters", [])]:
        yield "<table><tr><th>Parameter</th><th>In</th><th>Rule</th></tr>"
        for each in parameters:
            schema = {name: value for name, value in each["schema"].items() if name != "description"}
            text = each.get("description") or each["schema"].get("description", "")
            rule = f"<code>{escape(json.dumps(schema))}</code> {escape(text)}"
            yield f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td><td>{rule}</td></tr>"
        yield "</table>"
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        yield f"<p>Body: {_schema(media['schema'])}</p>{_shown(media['example'])}"
    yield "<table><tr><th>Status</th><th>Answer</th></tr>"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{status}</td><td>{_response(document, response)}</td></tr>"
    yield "</table>"


def _response(document: Mapping[str, Any], response: Mapping[str, Any]) -> str:
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    text = escape(response["description"])
    if "content" not in response:
        return text
    media = response["content"]["application/json"]
    examples = media.get("examples", {"Example": {"value": media.get("example")}})
    shown = "".join(_details(name, example["value"]) for name, example in examples.items())
    return f"{text} {_schema(media['schema'])}{shown}"


def _schema(schema: Mapping[str, Any]) -> str:
    names = [each["$ref"].rpartition("/")[2] for each in schema.get("anyOf", [schema])]
    return " or ".join(f'<a href="#{name}">{name}</a>' for name in names)


def _details(name: str, value: Any, *, anchor: str | None = None) -> str:
    identity = f' id="{anchor}"' if anchor else ""
    return f"<details{identity}><summary><code>{escape(name)}</code></summary>{_shown(value)}</details>"


def _shown(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


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
