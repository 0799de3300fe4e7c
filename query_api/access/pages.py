"""Which pages may use a session, and which may sign in (ADR 45).

A browser adds the cookie to the requests of any page, as far as SameSite allows. Sec-Fetch-Site and Origin say which
page a request is from; a page cannot set them (https://fetch.spec.whatwg.org/#forbidden-request-header). Browsers
without Sec-Fetch-Site (before 2020, Safari before 2023) send Origin with every unsafe request of another origin.
"""

import msgspec

from query_api.access.shown import PLAIN_COOKIE, SECURE_COOKIE, RawHeaders, header, is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Page(msgspec.Struct, frozen=True):
    """The page that a request is from.

    `site`: Sec-Fetch-Site. `address`: the origin of the service in the request. `is_loopback`: it is this machine by a
    name of loopback.
    """

    site: str | None
    origin: str | None
    address: str
    is_loopback: bool

    @property
    def is_own(self) -> bool:
        """Whether it is a page of this service."""
        if self.site is not None:
            return self.site == "same-origin"
        return self.origin == self.address

    @property
    def is_none(self) -> bool:
        """Whether the request is from no page: from a program that is no browser."""
        return self.site is None and self.origin is None

    @property
    def is_https(self) -> bool:
        """Whether the browser used https. Behind a proxy that is not in TRUSTED_PROXIES, only Origin says so."""
        return self.address.startswith("https://") or (self.origin or "").startswith("https://")

    @property
    def cookie(self) -> str | None:
        """The name of the cookie for its session; None over http from another machine, which could be overheard."""
        if self.is_https:
            return SECURE_COOKIE
        return PLAIN_COOKIE if self.is_loopback else None


def page_of(headers: RawHeaders, scheme: str) -> Page:
    """Return the page that the request is from."""
    headers = list(headers)
    host = (header(headers, b"host") or "").strip().lower()
    site, origin = (header(headers, name) for name in (b"sec-fetch-site", b"origin"))
    return Page(site, origin, f"{scheme}://{host}", is_loopback(headers))
