"""The DEX API: one question, asked for a client and a day."""

from __future__ import annotations

from datetime import date
from http import HTTPStatus

from include.clients.http import HttpClient, OverHttp, Response, body_of, raise_for_status
from include.clients.tokens import ClientCredentials, Token, TokenCache, client_credentials
from include.errors import ApiUnavailableError

UNNAMED_WAIT_SECONDS = 1.0
"""What a 429 asks for that does not say how long to wait."""


class DexApi(OverHttp):
    """Use as ``async with DexApi(...) as dex``: connections live for the block, the token for longer.

    Args:
        base_url: ``https://host[/prefix]`` of the API.
        http: sends the questions and the logins; two clients are made if none is given.
    """

    def __init__(self, base_url: str, credentials: ClientCredentials, *, http: HttpClient | None = None) -> None:
        self._url = f"{base_url.rstrip('/')}/data-exchange/trigger"
        self._http = http or HttpClient()
        self._tokens = TokenCache(client_credentials(credentials, http))

    async def log_in(self) -> None:
        """Fetch a token now, so that wrong credentials fail here and once; raises as :meth:`TokenCache.token`."""
        await self._tokens.token()

    async def trigger_response(self, client_id: int, day: date) -> bytes:
        """The body of the trigger response, byte for byte (spec: archive, Fetch).

        Raises:
            ApiUnavailableError: time-out, connection error, 408, 425, 429, 5xx; after a 429 with a wait.
            AuthRefusedError: credentials or a fresh token were refused.
            ApiRefusedError: any other status than 200, or too large a body.
            InvalidAnswerError: the body is not encoded as it says.
        """
        url = f"{self._url}?clientId={client_id}&triggerDate={day.isoformat()}"

        async def ask(token: Token) -> Response:
            headers = {"Authorization": f"Bearer {token.value}"}
            return await self._http.exchange("GET", url, headers=headers, what="DEX API")

        response = await self._tokens.call(ask)
        try:
            raise_for_status(response, what="DEX API")
        except ApiUnavailableError as error:
            if response.status == HTTPStatus.TOO_MANY_REQUESTS and error.retry_after is None:
                # Without a wait the whole group would be asked for within seconds, and mostly refused.
                error.retry_after = UNNAMED_WAIT_SECONDS
            raise
        return body_of(response, what="DEX API")
