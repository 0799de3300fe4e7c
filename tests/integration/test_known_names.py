"""Unknown and repeated parameters and fields, on every route."""

from typing import get_args

import httpx
import msgspec
import pytest
from litestar.routes import HTTPRoute

from query_api.dashboard import shell
from query_api.readings.intake import NewReading
from tests.application import application

ROUTES = sorted(
    (method, route.path)
    for route in application().routes
    if isinstance(route, HTTPRoute)
    for method in route.route_handler_map
    if method != "OPTIONS"
)
"""Every method and path of the application, as it has them."""


def path_of(template: str) -> str:
    """A path of the route."""
    for part, value in (
        ("{name:str}", "forbidden"),
        ("{file_path:path}", "index.css"),
        ("{path:str}", "x"),
        ("{version:str}", "x"),
    ):
        template = template.replace(part, value)
    for part in ("{device_id:str}", "{request_id:str}", "{result_id:str}", "{schedule_id:str}"):
        template = template.replace(part, "1")
    return template.replace("//", "/")


PAGES = set(shell.SCREENS)
"""Pages whose scripts read the query."""


async def test_no_route_ignores_an_unknown_parameter(api: httpx.AsyncClient) -> None:
    assert len(ROUTES) > 35
    for method, template in ROUTES:
        if template in PAGES:
            continue
        answer = await api.request(method, path_of(template), params={"frm": "2026-01-01"})
        assert answer.status_code == 422, (method, template)
        if method == "HEAD":  # it has no content
            continue
        (fault,) = answer.json()["errors"]
        assert fault["field"] == "frm"
        assert "unknown parameter" in fault["detail"]


async def test_a_repeated_parameter_that_is_not_a_list_is_refused(api: httpx.AsyncClient, device: int) -> None:
    (fault,) = (await api.get(f"/stats/{device}?start=2026-01-01&start=2026-02-01")).json()["errors"]
    assert fault == {"field": "start", "detail": "expected it once, got it 2 times"}
    several = await api.get(f"/stats/analysis?device_id={device}&device_id={device}&figures=mean&figures=p95")
    assert several.status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "meant"),
    [
        ("/stats/1", "from", "start"), ("/stats/1", "to", "end"), ("/stats/1", "page", "cursor"),
        ("/stats/1", "Limit", "limit"), ("/stats/1/buckets", "tz", "timezone"),
        ("/stats/1/buckets", "intervall", "interval"),
        ("/devices", "q", "search"), ("/devices", "per_page", "limit"), ("/stats/analysis", "device", "device_id"),
        ("/stats/analysis/1", "until", "end"), ("/stats/analysis/requests", "state", "status"),
    ],
)  # fmt: skip
async def test_the_likely_name_is_suggested(api: httpx.AsyncClient, path: str, name: str, meant: str) -> None:
    (fault,) = (await api.get(path, params={name: "1"})).json()["errors"]
    assert fault["detail"].startswith(f"unknown parameter: did you mean {meant}? Valid parameters: ")


async def test_a_path_without_parameters_says_so(api: httpx.AsyncClient) -> None:
    (fault,) = (await api.get("/devices/1?x=")).json()["errors"]
    assert fault["detail"] == "unknown parameter. No parameters are valid here"


async def test_many_wrong_names_cost_little(api: httpx.AsyncClient) -> None:
    answer = await api.get("/devices?" + "&".join(f"n{number}" for number in range(8000)))
    assert len(answer.json()["errors"]) == 20
    for names, named in ((5_000, 20), (200_000, 1)):  # of an object above 64 KiB, the first fault is named (ADR 43)
        body = msgspec.json.encode({f"n{number}": 1 for number in range(names)})
        answer = await api.post("/devices", content=body, headers={"content-type": "application/json"})
        assert len(answer.json()["errors"]) == named


def records_of(annotation: object) -> set[type]:
    """Return the records of a body, which may be a list of records."""
    inner = {record for each in get_args(annotation) for record in records_of(each)}
    return {annotation} if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) else inner


def test_every_record_except_a_reading_refuses_unknown_fields() -> None:
    records = {
        record
        for route in application().routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.parsed_data_field is not None
        for record in records_of(handler.parsed_data_field.annotation)
    }
    strict = {record for record in records if record.__struct_config__.forbid_unknown_fields}
    assert len(strict) == 8
    assert records - strict == {NewReading}


async def test_an_unknown_field_is_named(api: httpx.AsyncClient, device: int) -> None:
    schedule = {"device_id": device, "cron": "0 0 * * *", "period": "P1D", "tz": "Europe/Berlin"}
    for method, path, body, field, meant in (
        ("POST", "/devices", {"name": "a", "kee": "b"}, "kee", "key"),
        ("PATCH", f"/devices/{device}", {"title": "b"}, "title", "name"),
        ("POST", "/stats/analysis/schedules", schedule, "tz", "timezone"),
        ("PATCH", "/stats/analysis/schedules/1", {"paussed": True}, "paussed", "paused"),
    ):
        answer = await api.request(method, path, json=body)
        assert answer.status_code == 422, path
        faults = {fault["field"]: fault["detail"] for fault in answer.json()["errors"]}
        assert faults[field].startswith(f"unknown field: did you mean {meant}? Valid fields: ")
    reading = {"device_id": device, "x": 1, "y": 2, "z": 3, "battery": 3.1}
    assert (await api.post("/stats", json=reading)).status_code == 201


async def test_a_body_on_a_route_without_one_is_refused(api: httpx.AsyncClient, device: int) -> None:
    period = {"start": "2026-01-01", "end": "2026-02-01"}
    answer = await api.post(f"/stats/analysis/{device}/async", json=period)
    (fault,) = answer.json()["errors"]
    assert (answer.status_code, fault["field"]) == (422, "body")
    assert "are parameters of its query" in fault["detail"]
    assert (await api.post(f"/stats/analysis/{device}/async", content=b"")).status_code == 202
