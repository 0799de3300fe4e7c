"""URLs and addresses that callbacks may use."""

from ipaddress import ip_address

import pytest

from query_api.queue.addresses import check_url, is_public, without_addresses

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:0:0", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:db8::1", "2002:7f00:1::1", "fc00::1", "fd12:3456::1", "fe80::1", "febf::1", "fec0::1", "ff02::1",
    "3fff::1", "192.88.99.1", "192.31.196.1", "192.52.193.1", "192.175.48.1", "198.51.100.1", "192.0.0.9",
    "::ffff:192.88.99.1", "64:ff9b::c058:6301", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:20::1", "2620:4f:8000::1",
    "5f00::1", "100:0:0:1::1", "4000::1", "2606:4700::5efe:a00:1", "2606:4700::200:5efe:10.0.0.1", "::ffff:0:8.8.8.8",
]  # fmt: skip
PUBLIC = [
    "2606:4700::5efe:808:808", "192.88.98.255", "192.88.100.0",
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ValueError, match="not a public address"):
        check_url(f"http://{host}:80/x", allow_private=False, ports=None)
    check_url(f"http://{host}:80/x", allow_private=True, ports=None)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "example.org", "//example.org", "ftp://example.org", "file:///etc/passwd", "http://", "http:///x",
        "http://a@example.org", "http://a:b@example.org/", "http://example.org#f", "http://example.org/a b",
        "http://example.org/\r\nHost: x", "http://example.org/\0", "http://exa mple.org", "http://example.org:0",
        "http://example.org:65536", "http://example.org:x", "http://example.org:", "http://müller.example",
        "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/",
        "http://127.0.0.1./", "http://[::1", "http://[fe80::1%25eth0]/", "http://[:::::]/", "http://[1.2.3.4]/",
        "http://example..org", "http://-.org", "http://" + "a" * 64, "http://a/" + "b" * 2000, "http://a\\@b/",
        "http://example.org/\ud800", "https://example.org\n",
    ],
)  # fmt: skip
def test_no_addresses_of_callbacks(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_url(url, allow_private=True, ports=None)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org", "HTTPS://Example.org:8443/a/b?c=d&e=%20;~!'()*@:[]", "http://my_service/hook",
        "http://localhost:65535?x", "http://1.1.1.1", "https://[2606:4700::1111]:443/",
    ],
)  # fmt: skip
def test_addresses_of_callbacks(url: str) -> None:
    check_url(url, allow_private=False, ports=None)


def test_the_ports_of_callbacks() -> None:
    for url in ("http://a.test", "https://a.test/", "http://a.test:443/", "https://[2606:4700::1]:80"):
        check_url(url, allow_private=False, ports={80, 443})
    for url in ("http://a.test:5432/", "https://1.1.1.1:8443", "http://[2606:4700::1]:81/"):
        with pytest.raises(ValueError, match=r"is not one of the allowed ports \(80, 443\)"):
            check_url(url, allow_private=False, ports={443, 80})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[Errno 111] Connect call failed ('10.0.0.5', 80)", "[Errno 111] Connect call failed ('…', 80)"),
        ("no route to fd00::1.", "no route to …"),
        ("it answered 404 at 12:30, cafe", "it answered 404 at 12:30, cafe"),
    ],
)
def test_texts_without_addresses(text: str, left: str) -> None:
    assert without_addresses(text) == left
