"""Writes docs/openapi/*.json from the code of the APIs, and what the events API serves of its document.

``python docs/generate_openapi.py`` writes the files; with ``--check`` it exits 1 when one is not current.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
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
pre{background:#f3f5f8;padding:.75rem;white-space:pre-wrap}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e3e7ed}
td pre{margin:.3rem 0;padding:.3rem .5rem}b.method,a{color:#0b5cad}
@media(prefers-color-scheme:dark){body{color:#e3e7ed;background:#14181f}pre{background:#1f2630}
h2,th,td{border-color:#39424f}a,b.method{color:#7db7f0}}
"""


def page(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as one static page for people: without scripts, and without anything from elsewhere.

    Errors and schemas, which all operations share, are written once; operations link to them.
    """
    info, components = document["info"], document["components"]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_prose(info['description'])}</p>",
            '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
            *_keys(components["securitySchemes"]),
            *(line for tag in document["tags"] for line in _tag(document, tag)),
            "<h2>Errors</h2>",
            *_table(
                "Status",
                "Answer",
                rows=(
                    (f'<b id="error-{status}">{status}</b>', _response(response))
                    for status, response in components["responses"].items()
                ),
            ),
            "<h2>Schemas</h2>",
            *(line for name, schema in components["schemas"].items() for line in _schema(name, schema)),
            "</body></html>\n",
        )
    )


def _table(*heads: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    yield from (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    yield "</table>"


def _keys(schemes: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Keys</h2><ul>"
    for scheme in schemes.values():
        where = f"Header <code>{escape(scheme.get('name', 'Authorization'))}</code>"
        yield f"<li>{where}: {_prose(scheme['description'])}</li>"
    yield "</ul>"


def _tag(document: Mapping[str, Any], tag: Mapping[str, str]) -> Iterator[str]:
    yield f"<h2>{escape(tag['name'].title())}</h2><p>{_prose(tag['description'])}</p>"
    for kind in ("paths", "webhooks"):
        for path, item in document.get(kind, {}).items():
            for method, operation in item.items():
                if method != "parameters" and tag["name"] in operation["tags"]:
                    yield from _operation(method, path, operation, item.get("parameters", []))


def _operation(method: str, path: str, operation: Mapping[str, Any], of_path: list[Any]) -> Iterator[str]:
    yield f'<h3 id="{operation["operationId"]}"><b class="method">{method.upper()}</b> <code>{escape(path)}</code></h3>'
    yield f"<p><b>{_prose(operation['summary'])}.</b> {_prose(operation.get('description', ''))}</p>"
    if operation.get("security") == []:
        yield "<p>Needs no key.</p>"
    if parameters := [*of_path, *operation.get("parameters", [])]:
        rules = ((_code(each["name"]), each["in"], _rule({**each, **each["schema"]})) for each in parameters)
        yield from _table("Parameter", "In", "Rule", rows=rules)
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        yield f"<p>Body: {_type(media['schema'])}</p>{_shown(media['example'])}"
    own = {status: each for status, each in operation["responses"].items() if "$ref" not in each}
    errors = [f'<a href="#error-{status}">{status}</a>' for status in operation["responses"] if status not in own]
    yield from _table("Status", "Answer", rows=((status, _response(response)) for status, response in own.items()))
    if errors:
        yield f"<p>Errors: {', '.join(errors)}</p>"


def _response(response: Mapping[str, Any]) -> str:
    text = " ".join(
        (_prose(response["description"]), *(f"Header {_code(name)}." for name in response.get("headers", ())))
    )
    if "content" not in response:
        return text
    media = response["content"]["application/json"]
    examples = [each["value"] for each in media.get("examples", {}).values()] or [media["example"]]
    return f"{text} {_type(media['schema'])}{''.join(map(_shown, examples))}"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{name}"><code>{name}</code></h3>'
    yield from _table("Member", "", "Rule", rows=_members(schema))
    if schema.get("additionalProperties") is False:
        yield "<p>No other members.</p>"


def _members(schema: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, ...]]:
    for name, rule in schema["properties"].items():
        yield _code(parent + name), "" if name in schema["required"] else "optional", _rule(rule)
        if "properties" in rule:
            yield from _members(rule, f"{parent}{name}.")


_SAID = {
    *("name", "in", "schema", "description", "title", "type", "items", "anyOf", "$ref", "required", "example"),
    *("properties", "additionalProperties"),
}
"""Members of a parameter or schema that the page says in its own way, or not at all."""


def _rule(schema: Mapping[str, Any]) -> str:
    """What a value must be: its type, its limits and its description."""
    limits = (f"{name}: {_code(json.dumps(value))}" for name, value in schema.items() if name not in _SAID)
    return ". ".join(filter(None, (", ".join((_type(schema), *limits)), _prose(schema.get("description", "")))))


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(types) + (f" of {_type(schema['items'])}" if "items" in schema else "")


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _prose(text: str) -> str:
    """A description, which OpenAPI has in Markdown; of that, code between backticks is used."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _shown(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, ensure_ascii=False), quote=False)}</pre>"


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
