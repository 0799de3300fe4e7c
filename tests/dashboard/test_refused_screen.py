"""Refused messages in Chromium: bars, filters, one with its payload, replay, deletion."""

from datetime import timedelta
from typing import Any

import httpx
import msgspec

from shared.dead_letters import bitmap
from shared.readings.model import DeadLetter, ElementFault, Reason
from shared.settings import Settings
from tests import chromium
from tests.browser import Page
from tests.conftest import Broker
from tests.ingestion import running_ingestor
from tests.letters import FOUR, NOON, keep, left, letter
from tests.publisher import Message, publish

pytestmark = [chromium.needs_chromium]
DAY = "/ui/refused?from=2026-01-31&to=2026-01-31&tz=UTC"
LISTED = (
    "document.querySelector('.letters tbody tr, .refusals ~ .notice') && !document.querySelector('[aria-busy=true]')"
)
READING = b'{"x":1,"y":2,"z":3}'
TIMES = "[...document.querySelectorAll('.letters tbody th')].map(each => each.innerText)"
BARS = "document.querySelectorAll('.refusals rect:not(.target)').length"


async def show(page: Page, api: httpx.AsyncClient, address: str = DAY) -> None:
    await page.open(f"{api.base_url}{address}")
    await page.until(LISTED)


def faulty(payload: bytes, *faults: ElementFault, refused: bytes | None = None) -> DeadLetter:
    """Return a dead letter with these faults."""
    reasons = {fault.reason: 1 for fault in faults}
    return msgspec.structs.replace(letter("devices/1/stats", payload), reasons=reasons, faults=faults, refused=refused)


async def test_they_are_filtered_by_reason_topic_and_period_in_the_address(
    page: Page, api: httpx.AsyncClient, database_url: str
) -> None:
    await keep(database_url, FOUR)
    await show(page, api)
    assert await page.run(TIMES) == [f"2026-01-31 {hour}:00:00" for hour in (13, 12, 11, 10)]
    assert await page.text(".acts strong") == "4 dead letters"
    assert await page.run(BARS) == 4
    assert (await page.text(".chips button")).split() == ["All", "reasons", "4"]
    await page.click(".chips button:nth-child(2)")
    await page.until(f"({TIMES}).length === 1 && {LISTED}")
    assert (await page.run(BARS), await page.text(".acts strong")) == (1, "1 dead letter")
    assert "reason=malformed" in await page.run("location.search")
    await page.run("history.back()")
    await page.until(f"({TIMES}).length === 4")
    await page.fill("input[type=search]", "1")
    await page.key("Enter", "\r")
    await page.until(f"({TIMES}).length === 2 && {LISTED}")
    assert "topic=1" in await page.run("location.search")
    await show(page, api, f"{DAY}&topic=devices/%2B/stats&reason=out_of_range")
    assert await page.run(TIMES) == ["2026-01-31 12:00:00"]
    await show(page, api, "/ui/refused?from=2026-01-31T11:00:00Z&to=2026-01-31T12:00:00Z&tz=Asia/Tokyo")
    assert await page.run(TIMES) == ["2026-01-31 21:00:00", "2026-01-31 20:00:00"]
    await page.open(f"{api.base_url}/ui/refused?from=2020&to=now")
    assert "expected now" in await page.text(".notice.bad")


async def test_a_bar_and_a_row_of_the_table_zoom(page: Page, api: httpx.AsyncClient, database_url: str) -> None:
    await keep(database_url, FOUR)
    await show(page, api)
    await page.run("document.querySelector('.refusals summary').click()")
    await page.click(".refusals tbody tr:nth-child(2) button")
    await page.until(f"({TIMES}).length === 1 && {LISTED}")
    assert await page.run(TIMES) == ["2026-01-31 11:00:00"]
    await page.run("history.back()")
    await page.until(f"({TIMES}).length === 4 && {LISTED}")
    await page.run("document.querySelectorAll('.refusals g')[3].dispatchEvent(new MouseEvent('click'))")
    await page.until(f"({TIMES}).length === 1 && {LISTED}")
    assert await page.run(TIMES) == ["2026-01-31 13:00:00"]


async def test_an_empty_period_says_how_many_there_are_elsewhere(
    page: Page, api: httpx.AsyncClient, database_url: str
) -> None:
    await show(page, api, "/ui/refused")
    assert "No message was refused." in await page.text(".refusals ~ .notice")
    await keep(database_url, FOUR)
    await show(page, api, "/ui/refused?from=2026-05-01&to=2026-05-02&reason=malformed")
    assert "There are 4 in all." in await page.text(".refusals ~ .notice")
    await page.click(".refusals ~ .notice button")
    await page.until(f"({TIMES}).length === 4")


async def test_pages_are_in_the_address(page: Page, api: httpx.AsyncClient, database_url: str) -> None:
    await keep(database_url, [letter("t", b"", received_at=NOON + timedelta(seconds=at)) for at in range(130)])
    await show(page, api)
    assert len(await page.run(TIMES)) == 100
    assert await page.text(".acts strong") == "130 dead letters"
    await page.click("a[rel=next]")
    await page.until(f"({TIMES}).length === 30")
    assert "This is the last page." in await page.text(".pages")
    await page.run("history.back()")
    await page.until(f"({TIMES}).length === 100")


async def open_letter(page: Page, api: httpx.AsyncClient, number: int) -> None:
    await page.open(f"{api.base_url}{DAY}&letter={number}")
    await page.until("document.querySelector('.letter .facts-of')")


MARKS = "[...document.querySelectorAll({!r})].map(each => each.innerText)"


async def test_the_place_of_each_fault_is_marked_in_text_and_hex(
    page: Page, api: httpx.AsyncClient, database_url: str
) -> None:
    payload = b'[{"x":1,"y":2,"z":3},{"x":5000,"y":2,"z":3},{"x":1,"y":"2","z":3}]'
    await keep(
        database_url,
        [
            faulty(
                payload,
                ElementFault(1, Reason.OUT_OF_RANGE, "x: 5000 is not a number from -1000 to 1000"),
                ElementFault(2, Reason.INVALID_READING, "y: expected a number, got a string"),
                refused=bitmap.of([1, 2]),
            )
        ],
    )
    await show(page, api)
    await page.click(".letters tbody th a")
    faults = await page.text(".faults")
    assert "Out of range. x: 5000 is not a number from -1000 to 1000 (element 1, bytes 26 to 29)" in faults
    assert "(element 2, bytes 55 to 57)" in faults
    assert await page.run(MARKS.format(".payload .text mark")) == ["5000", '"2"']
    assert await page.run(MARKS.format(".payload mark.chosen")) == ["5000", "35 30 30 30", "5000"]
    await page.click(".faults li:nth-child(2) button")
    await page.until("document.querySelector('.payload mark.chosen').innerText === '\"2\"'")
    assert await page.run(MARKS.format(".hex mark.chosen")) == ["22 32 22", '"2"']
    assert await page.run("document.querySelector('.payload .text').innerText") == payload.decode()
    await page.run("history.back()")
    await page.until("!document.querySelector('dialog')")


async def test_binary_empty_and_cut_payloads_are_shown(page: Page, api: httpx.AsyncClient, database_url: str) -> None:
    cut = ElementFault(None, Reason.MALFORMED, "not MessagePack: Input data was truncated")
    await keep(database_url, [faulty(b"\x83\xa1x\x01", cut), faulty(b"", cut), letter("devices/9/stats", READING)])
    await open_letter(page, api, 1)
    assert "it is not UTF-8" in await page.text(".payload")
    assert "behind byte 4, the last one" in await page.text(".faults")
    assert "83 a1 78 01 ⟨end⟩" in await page.text(".payload .hex")
    assert await page.text(".payload .text mark") == "⟨the payload ends here⟩"
    await open_letter(page, api, 2)
    assert "The payload is empty." in await page.text(".letter")
    await open_letter(page, api, 3)
    assert await page.run("document.querySelectorAll('.payload mark').length") == 0
    page.expect(404, "/dead-letters/4")
    await page.open(f"{api.base_url}{DAY}&letter=4")
    assert "there is no dead letter 4" in await page.text(".letter .notice.bad")


async def test_hostile_texts_are_texts(page: Page, api: httpx.AsyncClient, database_url: str) -> None:
    html = "<img src=x onerror=alert(1)>"
    payload = f'{{"x":"{html}\u202e\x1b[2J\u05e9"}}'.encode()
    refused = msgspec.structs.replace(
        faulty(payload, ElementFault(None, Reason.INVALID_READING, f"x: {html}\u202e")), topic=f"devices/{html}\u202e"
    )
    await keep(database_url, [refused])
    await show(page, api)
    row = await page.text(".letters tbody tr")
    assert row.count(f"{html}⟨U+202E⟩") == 2
    await page.click(".letters tbody th a")
    assert f"{html}⟨U+202E⟩␛[2J\u05e9" in await page.text(".payload .text")
    assert await page.run("document.querySelector('main img')") is None
    assert "\u202e" not in await page.run("document.querySelector('main').innerText")


async def test_a_long_payload_is_shown_in_parts(page: Page, api: httpx.AsyncClient, database_url: str) -> None:
    """Few elements, around the fault, and every part can be reached."""
    readings = [READING] * 12_000
    readings[9000] = b'{"x":1,"y":2,"z":"\xc3\xa9"}'
    payload = b"[" + b",".join(readings) + b"]"
    assert len(payload) > 230_000
    await keep(
        database_url,
        [
            faulty(
                payload, ElementFault(9000, Reason.INVALID_READING, "z: expected a number, got a string"), refused=b""
            )
        ],
    )
    await open_letter(page, api, 1)
    assert await page.text(".payload .text mark.chosen") == '"é"'
    assert await page.run("document.querySelectorAll('*').length") < 1500
    steps = ".payload .row button"
    await page.click(f"{steps}:last-child")
    await page.until("document.querySelector('.payload .text').innerText.endsWith('}]')")
    assert await page.run(f"document.querySelector({steps + ':last-child'!r}).disabled")
    await page.click(f"{steps}:first-child")
    await page.until("document.querySelector('.payload .text').innerText.startsWith('[{')")
    await page.click(f"{steps}:nth-last-child(2)")
    await page.until("document.querySelector('.payload .row').innerText.includes('bytes 2,048 to 4,096')")


async def confirm(page: Page) -> None:
    await page.click("dialog button.primary[autofocus]")
    await page.until("[...document.querySelectorAll('dialog button')].some(each => each.innerText === 'Close')")


async def test_a_selection_is_replayed_and_each_has_its_outcome(
    page: Page, api: httpx.AsyncClient, database_url: str
) -> None:
    device = (await api.post("/devices", json={"name": "n", "key": "1"})).json()["id"]
    too_long = msgspec.structs.replace(letter("devices/1/stats", b"[", Reason.TOO_LARGE), payload_bytes=3_000_000)
    several = [
        letter("devices/1/stats", READING), letter("devices/1/stats", READING), letter("devices/2/stats", READING),
        letter("devices/1/stats", b'[{"x":2,"y":2,"z":3},{"x":"3","y":2,"z":3}]'), too_long,
    ]  # fmt: skip
    await keep(database_url, several)
    await show(page, api)
    await page.click(".letters thead input")
    await page.until("document.querySelector('.acts .end')?.innerText === '5 selected'")
    await page.click(".acts .end + button")
    assert "Replay 5 dead letters" in await page.text("dialog")
    await api.delete("/dead-letters?id=2")  # by somebody else, meanwhile
    await confirm(page)
    assert (await page.text("dialog .outcome")).splitlines() == [
        "2 readings stored", "1 reading refused again: unknown device", "1 reading refused again: invalid reading",
        "1 dead letter skipped: the payload was not fully kept", "1 dead letter gone: replayed or deleted before",
    ]  # fmt: skip
    outcomes = await page.text("dialog tbody")
    assert "1 reading stored; 1 reading refused again: x: expected a number, got a string" in outcomes
    assert "skipped: of its 3,000,000 bytes only the first 1 were kept" in outcomes
    assert left(database_url) == [3, 4, 5]
    assert len((await api.get(f"/stats/{device}")).json()) == 2
    await page.click("dialog header button")
    await page.until(
        f"!document.querySelector('dialog') && ({TIMES}).length === 3 && !document.querySelector('.acts .end')"
    )


async def test_all_that_match_are_replayed_but_none_that_arrived_later(
    page: Page, api: httpx.AsyncClient, database_url: str
) -> None:
    await api.post("/devices", json={"name": "n", "key": "1"})
    many = [letter("devices/1/stats", READING, received_at=NOON + timedelta(seconds=at)) for at in range(450)]
    await keep(database_url, [*many, letter("devices/2/stats", READING)])
    await show(page, api, f"{DAY}&topic=1")
    await page.click(".acts button")
    assert "450 dead letters" in await page.text("dialog h2")
    await keep(database_url, [letter("devices/1/stats", READING)])
    await confirm(page)
    assert await page.text("dialog .outcome") == "450 readings stored"
    assert left(database_url) == [451, 452]


async def test_deletion_says_how_many_and_leaves_the_others(
    page: Page, api: httpx.AsyncClient, database_url: str
) -> None:
    await keep(database_url, FOUR)
    await show(page, api, f"{DAY}&reason=malformed")
    await page.click(".acts button:nth-of-type(2)")
    assert "This deletes 1 dead letter with their payloads" in await page.text("dialog")
    await page.click("dialog .row button:last-child")
    await page.until("!document.querySelector('dialog')")
    assert left(database_url) == [1, 2, 3, 4]
    await page.click(".acts button:nth-of-type(2)")
    await confirm(page)
    assert "1 dead letter deleted." in await page.text("dialog [role=status]")
    assert left(database_url) == [1, 3, 4]
    await show(page, api)
    await page.click(".letters tbody tr:nth-child(1) input")
    await page.click(".letters tbody tr:nth-child(3) input")
    await page.click(".acts .end + button + button")
    await confirm(page)
    assert left(database_url) == [3]


async def test_one_is_deleted_from_its_dialog(page: Page, api: httpx.AsyncClient, database_url: str) -> None:
    await keep(database_url, FOUR)
    await open_letter(page, api, 2)
    await page.click(".letter .dialog-body > .row button:last-child")
    await confirm(page)
    await page.click("dialog:not(.letter dialog) header button")
    await page.until("!document.querySelector('dialog') && location.search.indexOf('letter') < 0")
    assert left(database_url) == [1, 3, 4]


async def test_a_message_of_an_unknown_device_is_replayed_after_its_registration(
    page: Page, api: httpx.AsyncClient, make_settings: Any, broker: Broker
) -> None:
    """The whole way: broker, ingestor, database, API, page."""
    settings: Settings = make_settings(unknown_devices="reject")
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(READING, topic="devices/press-9/stats"))
        await page.open(f"{api.base_url}/ui/refused?from=now-1h&to=now")
        await page.until("document.querySelector('main')?.innerText.includes('press-9') || (document.querySelector("
                         "'[title^=\"Read again\"]')?.click(), false)")  # fmt: skip
    await api.post("/devices", json={"name": "Press 9", "key": "press-9"})
    await page.click(".letters tbody th a")
    assert "Unknown device." in await page.text(".letter .faults")
    await page.click(".letter .dialog-body > .row button:first-child")
    await confirm(page)
    assert await page.text("dialog .outcome") == "1 reading stored"
