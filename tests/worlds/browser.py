"""Chromium, driven by Playwright: what a person sees and clicks in a page of the live stack.

Its tests are ``tests/e2e/test_browser_*.py``: they share the stack of the other end-to-end tests, and open pages by the
fixture ``open_page``.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, expect, sync_playwright

from local.demo.run import BROWSERS, QUIET

WAIT_SECONDS = 60.0
"""How long an action or an expectation waits on a busy machine."""


@dataclass
class Window:
    """Opens pages of one server, and keeps what a person would not see: errors and requests to anywhere else.

    It is left with all its pages closed.
    """

    browser: Browser
    base_url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for context in self.contexts:
            context.close()

    def open(self, path: str = "/", **context: Any) -> Page:
        """A page in a context of its own; ``context``: Playwright's options, such as ``timezone_id``."""
        opened = self.browser.new_context(base_url=self.base_url, **context)
        self.contexts.append(opened)
        opened.set_default_timeout(WAIT_SECONDS * 1000)
        page = opened.new_page()
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)
        page.on("request", self._on_request)
        page.goto(path)
        return page

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_error(self, error: Error) -> None:
        self.errors.append(str(error))

    def _on_request(self, request: Request) -> None:
        asked, ours = urlsplit(request.url), urlsplit(self.base_url)
        if asked.scheme in {"http", "https", "ws", "wss"} and asked.netloc != ours.netloc:
            self.elsewhere.append(request.url)


OpenPage = Callable[..., Page]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser, which takes a second of CPU to start.

    Playwright's loop runs in the calling thread until the end: code that calls ``asyncio.run`` belongs before or after.
    """
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert chromium is not None, f"no browser was found ({', '.join(BROWSERS)}); on Debian: apt-get install chromium"
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()
