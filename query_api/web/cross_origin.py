"""CORS for pages of the origins in CORS_ORIGINS (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from collections.abc import Sequence

from litestar.config.cors import CORSConfig

_SENT = ["Accept", "Authorization", "Content-Type", "Last-Event-ID", "Prefer"]
_SHOWN = [
    "Content-Disposition", "Link", "Location", "Preference-Applied", "Retry-After",
    "X-Analysis-Source", "X-Next-Cursor",
]  # fmt: skip
_LIMITS = ["RateLimit-Limit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset"]


def cross_origin(origins: Sequence[str]) -> CORSConfig | None:
    """Return the CORS configuration for these origins; None without any.

    A preflight request has no key, and is answered before authentication. The page sends the key, not the browser, so
    credentials in the sense of CORS are never allowed.
    """
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["DELETE", "GET", "HEAD", "PATCH", "POST"],
        allow_headers=_SENT,
        expose_headers=[*_SHOWN, *_LIMITS],
    )
