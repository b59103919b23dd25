"""The DEX API: one question, asked for a client and a day."""

from __future__ import annotations

from datetime import date
from types import TracebackType
from typing import Self

import httpx

from include.clients.http import TIMEOUT_SECONDS, Lines, get_body
from include.clients.tokens import ClientCredentials, ClientCredentialsAuth


class DexApi:
    """Use as ``async with DexApi(...) as dex``: connections and the token live for the block.

    Args:
        base_url: ``https://host[/prefix]`` of the API.
        credentials: what to log in with.
        transport: stands in for the network in tests.
    """

    def __init__(
        self,
        base_url: str,
        credentials: ClientCredentials,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/data-exchange/trigger"
        self._credentials = credentials
        self._transport = transport

    async def __aenter__(self) -> Self:
        self._auth = ClientCredentialsAuth(self._credentials, transport=self._transport)
        self._lines = Lines(timeout=TIMEOUT_SECONDS, transport=self._transport, auth=self._auth)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lines.close()

    async def log_in(self) -> None:
        """Fetch a token now, so that wrong credentials fail here and once.

        Raises:
            AuthRefusedError: the credentials are refused.
            ApiUnavailableError: the token endpoint cannot be reached or fails.
            InvalidAnswerError: it answered something that is no token.
        """
        await self._auth.log_in()

    async def trigger_response(self, client_id: int, day: date) -> bytes:
        """The body of the trigger response, byte for byte (spec: archive, Fetch).

        Raises:
            ApiUnavailableError: a retry may work.
            AuthRefusedError: credentials or a fresh token were refused.
            ApiRefusedError: any other status than 200.
        """
        params = {"clientId": str(client_id), "triggerDate": day.isoformat()}
        with self._lines.line() as http:
            # First, so that a slow token endpoint is not taken for a slow API.
            await self._auth.log_in()
            return await get_body(http, self._url, params=params, what="DEX API")
