"""The partner stubs: told what to do wrong, asked what they received, asked what the pipeline asked."""

from datetime import date, datetime
from typing import Any

import httpx

from local.stack.description import Stack
from tests.worlds.live.secrets import DEX_API, Secrets

TRIGGER = "/data-exchange/trigger"
TOKEN = "/oauth2/token"

Call = dict[str, Any]


class Partners:
    def __init__(self, stack: Stack, secrets: Secrets) -> None:
        self._secrets = secrets
        self._http = httpx.Client(base_url=stack.partners_url, timeout=30)

    def close(self) -> None:
        self._http.close()

    def order(self, *rules: dict[str, Any], **general: Any) -> None:
        """Put these rules, and no others, in force; rules are for the trigger question unless they say otherwise."""
        document = {"rules": [{"path": TRIGGER, **rule} for rule in rules], **general}
        answer = self._http.put("/control", json=document)
        assert answer.is_success, answer.text

    def calls(self, path: str = "/", *, since: int = 0) -> list[Call]:
        """What was received at or below ``path`` after call number ``since``, in the order it began."""
        asked: dict[str, Any] = {"path": path, "since": since, "limit": 200_000}
        calls = self._http.get("/journal", params=asked).raise_for_status().json()["calls"]
        return sorted(calls, key=lambda call: call["at"])

    def questions(self, day: date) -> dict[int, list[Call]]:
        """The trigger questions about one day by client id, each client's in the order they began."""
        by_client: dict[int, list[Call]] = {}
        for call in self.calls(TRIGGER):
            if call["query"].get("triggerDate") == day.isoformat():
                by_client.setdefault(int(call["query"]["clientId"]), []).append(call)
        return by_client

    def most_at_once(self, path: str) -> int:
        """How many calls of ``path`` the stub has ever had under way at once."""
        found = self._http.get("/journal", params={"limit": 0}).raise_for_status().json()
        return int(found["max_concurrent"][path])

    def received(self, *, batches: bool = True) -> dict[str, Any]:
        """What the call-details API has taken: totals, and with ``batches`` each one by its idempotency key."""
        asked = {"batches": str(batches).lower()}
        return self._http.get("/journal/call-details", params=asked).raise_for_status().json()

    def last(self) -> int:
        return int(self._http.get("/journal", params={"limit": 0}).raise_for_status().json()["last"])

    def token(self) -> str:
        credentials = self._secrets.read(DEX_API)
        form = {
            "grant_type": "client_credentials",
            "client_id": credentials["login"],
            "client_secret": credentials["password"],
            "scope": "dex/trigger:all",
        }
        return str(self._http.post(TOKEN, data=form).raise_for_status().json()["access_token"])

    def call_details_token(self, keys: dict[str, str]) -> str:
        return str(self._http.post("/call-details/login", json=keys).raise_for_status().json()["token"])

    def answers(self, clients: list[int], day: date) -> dict[int, bytes]:
        """What the API answers now, byte for byte."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        found = {}
        for client in clients:
            asked: dict[str, Any] = {"clientId": client, "triggerDate": day.isoformat()}
            found[client] = self._http.get(TRIGGER, params=asked, headers=headers).raise_for_status().content
        return found


def begun(call: Call) -> datetime:
    return datetime.fromisoformat(call["at"])
