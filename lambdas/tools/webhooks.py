"""Addresses and secrets of webhooks, as people give them on a command line."""

from __future__ import annotations

import argparse
import base64
import re
import secrets
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from lambdas.tools.tables import ToolError

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret of Standard Webhooks begins with
NEW_SECRET_BYTES = 32
MAX_URL_CHARACTERS = 2_048

_NAME = re.compile(r"[a-z0-9._-]+")
_IPV4_LIKE = re.compile(r"[0-9]+(\.[0-9]+){3}")
_SECRET_BYTES = range(24, 65)
"""As Standard Webhooks has it."""


def new_secret() -> str:
    """A secret that nobody has yet."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def secret(text: str) -> str:
    """The argument ``--secret``."""
    try:
        data = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        data = b""
    if not text.startswith(SECRET_PREFIX) or len(data) not in _SECRET_BYTES:
        raise argparse.ArgumentTypeError(f"must be {SECRET_PREFIX} and base64 of 24 to 64 bytes")
    return text


def check_url(url: str, *, allow_http: bool) -> None:
    """Refuse what could never be delivered to. The delivery itself checks the address that the name stands for.

    Raises:
        ToolError: it is no address of a webhook.
    """
    try:
        parts = urlsplit(url)
        usable = _is_host(parts) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    # urlsplit() overlooks line breaks and the like.
    if not usable or parts.scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or " " in url:
        raise ToolError("--url must be an address such as https://example.com/hooks")
    if parts.scheme == "http" and not allow_http:
        raise ToolError("--url must begin with https:// (--allow-http is for the local stack)")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ToolError("--url must have neither a user nor a password nor a fragment")
    if len(url) > MAX_URL_CHARACTERS:
        raise ToolError(f"--url must have at most {MAX_URL_CHARACTERS} characters")


def _is_host(parts: SplitResult) -> bool:
    """Whether its host is a name or an address, in a form that the delivery takes too; an address may raise."""
    text = parts.hostname or ""
    if "[" in parts.netloc or _IPV4_LIKE.fullmatch(text):
        ip_address(text)
        return True
    return _NAME.fullmatch(text) is not None
