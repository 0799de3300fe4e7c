"""Devices: registering, listing, reading."""

import asyncio
from typing import Any

import httpx
import msgspec

from shared.settings import Settings, parse_mqtt_url, parse_topic_filter
from tests import services


async def create(api: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await api.post("/devices", json=body)


def fields(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def test_the_default_key_of_a_device_is_its_id(api: httpx.AsyncClient) -> None:
    plain = await create(api, name="Boiler")
    named = await create(api, name="Pump", key="pump-1")

    assert (plain.status_code, named.status_code) == (201, 201)
    first, second = plain.json(), named.json()
    assert first["key"] == str(first["id"])
    assert second["key"] == "pump-1"
    assert first["created_at"].endswith("Z")
    for answer in (plain, named):
        shown = await api.get(answer.headers["location"])
        assert shown.json().items() <= answer.json().items()


async def test_a_taken_key_is_refused(api: httpx.AsyncClient) -> None:
    await create(api, name="Pump", key="pump-1")
    again = await create(api, name="Other pump", key="pump-1")
    assert again.status_code == 409
    assert again.json()["type"] == "/problems/key-taken"
    assert again.json()["errors"] == [{"field": "key", "detail": "is taken"}]


async def test_an_id_that_is_taken_as_a_key_is_skipped(api: httpx.AsyncClient) -> None:
    first = (await create(api, name="One")).json()["id"]
    for squatter in (1, 2):  # they have the numbers first + 1 and first + 2
        await create(api, name="Squatter", key=str(first + 2 + squatter))
    devices = [(await create(api, name=f"Device {n}")).json() for n in range(4)]
    assert all(device["key"] == str(device["id"]) for device in devices)
    assert len({device["id"] for device in devices}) == 4


async def test_concurrent_registrations_get_unique_keys(api: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(create(api, name="Boiler") for _ in range(30)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["key"] for answer in answers}) == 30


GOOD_KEYS = ["boiler-1", "0", "Ä", "温度", "a.b_c:d$", "$SYS", "x" * 128, "😀" * 128]
BAD_KEYS = ["", " ", "a b", "a/b", "a+", "#", "a\n", "\n", "a\tb", "a\0b", "a\u0085", "\u2003", "x" * 129, "\x7f", 7]
GOOD_NAMES = ["a", "x" * 200, "\u0301 é 😀", "two\nlines"]
BAD_NAMES = ["", " ", "\t\n", "a\0", "\0", "x" * 201, None, 5, ["a"]]


async def test_keys_that_are_one_topic_level_are_accepted(api: httpx.AsyncClient) -> None:
    for key in GOOD_KEYS:
        answer = await create(api, name="Boiler", key=key)
        assert (answer.status_code, answer.json().get("key")) == (201, key)


async def test_other_keys_are_refused(api: httpx.AsyncClient) -> None:
    for key in BAD_KEYS:
        answer = await create(api, name="Boiler", key=key)
        assert (answer.status_code, fields(answer)) == (422, ["key"]), ascii(key)


async def test_the_key_of_the_ingestors_probe_is_refused(api: httpx.AsyncClient) -> None:
    answer = await create(api, name="Boiler", key="devicestat-probe")
    assert (answer.status_code, fields(answer)) == (422, ["key"])
    assert "'devicestat-probe' is reserved" in answer.json()["detail"]
    assert (await create(api, name="Boiler", key="devicestat-ingestor")).status_code == 201


async def test_names(api: httpx.AsyncClient) -> None:
    for name in GOOD_NAMES:
        answer = await create(api, name=name)
        assert (answer.status_code, answer.json().get("name")) == (201, name)
    for refused in BAD_NAMES:
        answer = await create(api, name=refused)
        assert (answer.status_code, fields(answer)) == (422, ["name"]), ascii(refused)


async def test_every_wrong_field_is_named(api: httpx.AsyncClient) -> None:
    answer = await create(api, key=7)
    assert fields(answer) == ["name", "key"]


async def test_pages_contain_every_device_once_in_order(api: httpx.AsyncClient) -> None:
    created = [(await create(api, name=f"Device {n}")).json() for n in range(7)]
    found: list[Any] = []
    address: str | None = "/devices?limit=3"
    sizes = []
    while address is not None:
        page = await api.get(address)
        assert page.status_code == 200
        sizes.append(len(page.json()))
        found += page.json()
        following = page.links.get("next")
        assert (following is None) == ("x-next-cursor" not in page.headers)
        address = following["url"] if following else None
    assert [device["id"] for device in found] == [device["id"] for device in created]
    assert all(shown.items() <= device.items() for shown, device in zip(found, created, strict=True))
    assert sizes == [3, 3, 1]


FOUND = {
    "boiler": {"Boiler, north", "BOILER %"},
    "NORTH": {"Boiler, north"},
    "pump-": {"Another"},
    "%": {"BOILER %"},
    "_": set(),
    "\\": set(),
    "": {"Boiler, north", "BOILER %", "Another"},
    "nothing has this": set(),
}


async def test_search_finds_names_and_keys(api: httpx.AsyncClient) -> None:
    for device in ({"name": "Boiler, north"}, {"name": "BOILER %"}, {"name": "Another", "key": "pump-1"}):
        await create(api, **device)
    for search, expected in FOUND.items():
        answer = await api.get("/devices", params={"search": search})
        assert {device["name"] for device in answer.json()} == expected, search


async def test_the_next_page_of_a_search_has_its_parameters(api: httpx.AsyncClient) -> None:
    for n in range(4):
        await create(api, name=f"Pump {n} & more")
        await create(api, name=f"Boiler {n}")
    first = await api.get("/devices", params={"search": "pump", "limit": 3})
    second = await api.get(first.links["next"]["url"])
    names = [device["name"] for device in first.json() + second.json()]
    assert names == [f"Pump {n} & more" for n in range(4)]


async def test_unknown_devices(api: httpx.AsyncClient) -> None:
    for number in ("0", "-1", "999", str(2**63 - 1), str(2**63), "9" * 60):
        answer = await api.get(f"/devices/{number}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        assert number in answer.json()["detail"]


async def test_trailing_slashes_make_no_difference(api: httpx.AsyncClient, device: int) -> None:
    for path in ("/devices", f"/devices/{device}", f"/stats/{device}", f"/stats/analysis/{device}", "/health/live"):
        bare, slashed = await api.get(path), await api.get(f"{path}/")
        assert (bare.status_code, bare.json()) == (200, slashed.json())
    assert (await api.post("/devices/", json={"name": "Boiler"})).status_code == 201


async def test_a_registered_device_learns_where_it_publishes(api_settings: Settings) -> None:
    places = {
        None: {"port": None, "tls": None},
        "mqtt://broker.internal": {"port": 1883, "tls": False},
        "mqtts://user:secret@broker.internal:9883": {"port": 9883, "tls": True},
        "mqtt+unix:///run/mosquitto.sock": {"port": None, "tls": None},
    }
    for number, (url, place) in enumerate(places.items()):
        settings = msgspec.structs.replace(
            api_settings, mqtt_url=url and parse_mqtt_url(url), mqtt_topic=parse_topic_filter("$share/g/plant/+/raw")
        )
        async with services.api(settings) as api:
            made = (await api.post("/devices", json={"name": "n", "key": f"pump-{number}"})).json()
        assert made["mqtt"] == {"topic": f"plant/pump-{number}/raw", **place}
