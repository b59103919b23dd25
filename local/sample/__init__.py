"""Sample data for the local stack: the client database that `dex_trigger_archive` reads."""

from __future__ import annotations

from local.sample.client_database import BROKEN_CLIENT_ID, create_client_database

__all__ = ["BROKEN_CLIENT_ID", "create_client_database"]
