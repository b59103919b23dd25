import pytest

from include.clients.connections import parse_url, proxy_of


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("https://dex.test", "https://dex.test/"),
        ("https://dex.test:8443/api?x=%2B", "https://dex.test:8443/api?x=%2B"),
        ("https://dex.test/a%3Ab%41/../c//", "https://dex.test/a%3Ab%41/../c//"),
        ("https://dex.test/a b/ü#part", "https://dex.test/a%20b/%C3%BC"),
        ("https://DEX.test/", "https://dex.test/"),
        ("https://bücher.test/", "https://xn--bcher-kva.test/"),
        ("https://[::1]:8443/", "https://[::1]:8443/"),
    ],
)
def test_url_is_sent_as_it_stands(text: str, sent: str) -> None:
    assert str(parse_url(text)) == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dex.test",
        "https://",
        "https:///path",
        "https://user@dex.test",
        "https://u:p4ss@dex.test",
        "https://dex.test:99999",
        "https://[::1",
        "https://dex.test/\nX: 1",
        "https://dex\t.test/",
        "https://" + "ü" * 70 + ".test/",
    ],
)
def test_text_that_is_no_url_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_url(text)
    assert "p4ss" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("", "https://calls.test/", True),
        ("*", "https://calls.test/", False),
        ("calls.test", "https://calls.test:8443/", False),
        ("calls.test", "https://api.calls.test/", False),
        ("calls.test", "https://othercalls.test/", True),
        (".example.com", "https://api.example.com/", False),
        (".example.com", "https://example.com/", False),
        ("*.example.com", "https://api.example.com/", False),
        ("internal:8443", "https://internal:8443/", False),
        ("internal:8443", "https://internal/", True),
        ("a.test, Calls.Test ,b.test", "https://calls.test/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.0.0.0/8", "https://calls.test/", True),
        ("fe80::/10", "https://calls.test/", True),
        ("fe80::/10", "https://[fe80::1]/", False),
        ("[::1]", "https://[::1]:8443/", False),
        ("[::1]:8443", "https://[::1]:8443/", False),
        ("[::1]:8443", "https://[::1]/", True),
        ("::1", "https://[::1]/", False),
        ("127.0.0.1", "https://127.0.0.1:8443/", False),
        ("1.2.3.4/99,[,:,]:", "https://calls.test/", True),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(
    no_proxy: str, url: str, *, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", "proxy.test:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_of(parse_url(url)) == ("http://proxy.test:3128" if proxied else None)
