"""Which clients accept gzip."""

import pytest

from query_api.web.answers.compression import accepts_gzip


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ([], False), ([""], False), (["gzip"], True), (["GZIP"], True), (["br, gzip;q=0.1"], True),
        (["br", "gzip"], True), (["gzip;q=0"], False), (["gzip; q=0.000"], False), (["*"], True),
        (["*;q=0"], False), (["*, gzip;q=0"], False), (["identity"], False), (["x-gzip"], True),
        (["gzip;q=x"], False), (["gzipped"], False), (["gzip;q=nan"], False),
    ],
)  # fmt: skip
def test_clients_that_accept_gzip(given: list[str], accepted: bool) -> None:
    assert accepts_gzip(given) is accepted
