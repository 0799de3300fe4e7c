"""The screen Schedules in Chromium, with a real worker: the preview, ticks, and results over time."""

from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.conftest import Database
from tests.credentials import bearer, keys
from tests.dashboard.conftest import shown
from tests.dashboard.pixels import pixels
from tests.dashboard.test_analyses_screen import QUICK, choose
from tests.dashboard.test_screens import faults_of_access
from tests.dashboard.test_sign_in_screen import sign_in

pytestmark = [chromium.needs_chromium]
PATH = "/stats/analysis/schedules"
PREVIEWED = "document.querySelector('.preview strong')?.innerText"
NIGHTLY = {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "period": "P1D"}
ROW = "document.querySelector('.schedules tbody tr').innerText.replace(/\\s+/g, ' ')"


async def show(page: Page, api: httpx.AsyncClient, query: str = "") -> None:
    await page.open(f"{api.base_url}/ui/schedules?tz=UTC{query}")
    await page.until("document.querySelector('.schedules tbody tr, .notice, .facts')")


async def make(api: httpx.AsyncClient, device: int, **changes: object) -> int:
    answer = await api.post(PATH, json={"device_id": device, **NIGHTLY, **changes})
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


async def test_a_schedule_is_shown_in_words_before_it_is_created(
    page: Page, api: httpx.AsyncClient, device: int
) -> None:
    await show(page, api)
    assert "There is no schedule yet" in await page.text(".notice")
    await page.key("n", "n")
    await page.until(f"{PREVIEWED} === 'At 02:00 every day'")
    await page.fill("#field-timezone", "Europe/Berlin")
    await page.fill("#field-cron", "*/40 8-9 * * mon")
    await page.until(f"{PREVIEWED} === 'At 08:00, 08:40, 09:00 and 09:40 every Monday'")
    given = {"cron": "*/40 8-9 * * mon", "timezone": "Europe/Berlin", "period": "P1D"}
    expected = (await api.get(f"{PATH}/preview", params=given)).json()["ticks"]
    rows = await page.run("[...document.querySelectorAll('.preview tbody tr')].map(row => row.innerText)")
    assert len(rows) == len(expected) == 5
    assert all(row.startswith("Mon ") for row in rows)
    local = datetime.fromisoformat(expected[0]["tick"]).astimezone(UTC)
    assert f"{local:%Y-%m-%d}" in rows[0]

    page.expect(422, f"{PATH}/preview")
    # A wrong expression is refused at its field, in the words of saving.
    await page.fill("#field-cron", "*/40 8-9 * * someday")
    await page.until("document.querySelector('#about-cron.fault')")
    refusal = (await api.post(PATH, json={"device_id": device, **given, "cron": "*/40 8-9 * * someday"})).json()
    assert await page.text("#about-cron") == refusal["errors"][0]["detail"]
    assert "once the marked fields are right" in await page.text(".preview")
    await page.fill("#field-timezone", "Mars")
    await page.until("document.querySelector('#about-timezone.fault')")
    await page.fill("#field-timezone", "Europe/Berlin")
    await page.fill("#field-cron", "0 7 * * MON")
    await page.until(f"{PREVIEWED} === 'At 07:00 every Monday'")

    await page.click("dialog .primary")
    await page.until("document.querySelector('dialog .fault')?.innerText === 'Choose a device.'")
    await choose(page, "Boiler")
    await page.fill("#field-name", "Weekly")
    await page.click("dialog input[value=mean]")
    await page.fill("#field-percentiles", "p95")
    await page.click("dialog .primary")
    assert (await page.until(f"document.querySelector('.schedules') && {ROW}")).startswith(
        "Weekly Boiler, north At 07:00 every Monday 0 7 * * MON Europe/Berlin 1 day in "
    )
    (made,) = (await api.get(PATH)).json()
    saved = {name: made[name] for name in ("cron", "timezone", "period", "align", "figures", "name")}
    assert saved == {
        "cron": "0 7 * * MON", "timezone": "Europe/Berlin", "period": "P1D", "align": True,
        "figures": ["mean", "p95"], "name": "Weekly",
    }  # fmt: skip


async def test_a_repeated_hour_is_previewed_with_its_offsets(
    page: Page, api: httpx.AsyncClient, device: int, database: Database
) -> None:
    """The form asks for the ticks with the times of the zone."""
    await make(api, device)
    await show(page, api)
    await page.click(".schedules .actions button:nth-child(2)")
    await page.until(f"{PREVIEWED} === 'At 02:00 every day'")
    await page.fill("#field-cron", "0 2 1 */6 *")
    await page.until(f"{PREVIEWED} === 'At 02:00 on day 1 of January and July'")
    text = await page.text(".preview tbody")
    assert "+01:00" in text
    assert "+02:00" in text


async def test_the_results_of_ticks_are_drawn_over_time(
    page: Page, api: httpx.AsyncClient, waves: int, database: Database, api_settings: Settings
) -> None:
    number = await make(api, waves, cron="* * * * *", timezone="UTC", period="PT1M", figures=["p95"])
    await show(page, api, f"&schedule={number}")
    assert "has not ticked yet" in await page.text(".notice")
    for minute in range(1, 8):
        tick = datetime(2026, 1, 31, 12, minute, tzinfo=UTC)
        await database.execute(
            "WITH request AS (INSERT INTO analysis_requests (device_id, period, figures, by_schedule) VALUES "
            "(%(device)s, tstzrange(%(tick)s - interval '1 min', %(tick)s - interval '1 us', '[]'), '{p95}', true) "
            "RETURNING id) "
            "INSERT INTO analysis_ticks (schedule_id, tick, request_id) SELECT %(number)s, %(tick)s, id FROM request",
            {"device": waves, "tick": tick, "number": number},
        )
    await database.execute("UPDATE analysis_schedules SET next_tick = now() - interval '1 min'")
    async with services.worker(api_settings, QUICK):
        await page.until("document.querySelectorAll('.status.done').length >= 8")
    await database.execute("UPDATE analysis_schedules SET next_tick = NULL")
    await page.open(f"{api.base_url}/ui/schedules?tz=UTC&schedule={number}&to=2026-01-31T12:30:00Z")
    await page.until("document.querySelectorAll('main tbody tr').length === 7 && document.querySelector('canvas')")
    for pane in range(3):
        assert await pixels(page, pane, f"line-{pane}") > 100, pane
    ticks = (await api.get(f"{PATH}/{number}/ticks", params={"end": "2026-01-31T12:30:00Z"})).json()
    await page.run(
        "(select => { select.value = 'p95'; select.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(document.querySelector('.card select'))"
    )
    await page.until("location.search.includes('figure=p95') && document.querySelector('h2').innerText === 'p95'")
    cells = await page.run("[...document.querySelectorAll('main tbody tr')].map(row => row.cells[3].innerText)")
    assert list(map(float, cells)) == [tick["x"]["percentiles"]["p95"] for tick in ticks]
    await page.drag("time-plot .u-over", 0.3, 0.7)
    await page.until("location.search.includes('from=') && document.querySelectorAll('main tbody tr').length < 7")
    await page.run("history.back()")
    await page.until("!location.search.includes('from=') && document.querySelectorAll('main tbody tr').length === 7")
    await page.click("main tbody th a")
    await page.until("document.querySelector('dialog table')")
    assert await page.run("location.pathname") == "/ui/analyses"


async def test_a_failed_tick_has_its_reason(
    page: Page, api: httpx.AsyncClient, device: int, database: Database
) -> None:
    number = await make(api, device, name="Nightly")
    await database.execute(
        "WITH request AS (INSERT INTO analysis_requests (device_id, period, status, last_error, finished_at) VALUES "
        "(%(device)s, '[,]', 'failed', 'DataError: broken', now()) RETURNING id) INSERT INTO analysis_ticks "
        "(schedule_id, tick, request_id) SELECT %(number)s, '2026-01-31', id FROM request",
        {"device": device, "number": number},
    )
    await database.execute("UPDATE analysis_schedules SET last_tick = '2026-01-31'")
    await show(page, api)
    assert await page.text(".schedules .status") == "Failed"
    await page.click(".schedules tbody th a")
    assert await page.text("main .reason") == "DataError: broken"
    assert await page.run("document.title") == "Nightly · Devicestat"
    await page.run("history.back()")
    await page.until("document.querySelector('.schedules')")
    await page.click(".schedules .status")
    assert await page.text("dialog .reason") == "DataError: broken"


async def test_many_ticks_are_read_in_parts(
    page: Page, api: httpx.AsyncClient, device: int, database: Database
) -> None:
    number = await make(api, device)
    await database.execute(
        "INSERT INTO analysis_ticks (schedule_id, tick) SELECT %s, '2026-01-01'::timestamptz + n * interval '1 hour' "
        "FROM generate_series(1, 1200) AS n",
        (number,),
    )
    await show(page, api, f"&schedule={number}")
    for count in ("500", "1,000"):
        await page.until(f"document.body.innerText.includes('{count} ticks, the newest first')")
        await page.click("main > p .small")
    await page.until("document.body.innerText.includes('1,200 ticks, the newest first')")
    await page.key("r", "r")
    await page.until("document.querySelectorAll('main tbody tr').length === 1200")


async def test_a_schedule_is_paused_edited_and_deleted(page: Page, api: httpx.AsyncClient, device: int) -> None:
    number = await make(api, device, name="Nightly", period=None)
    await show(page, api)
    button = ".schedules .actions button:nth-child({})"
    await page.click(button.format(1))
    await page.until(f"{ROW}.includes(' all time paused ')")
    await page.click(button.format(1))
    await page.until(f"!{ROW}.includes('paused')")
    await page.click(button.format(2))
    await page.until(f"{PREVIEWED} === 'At 02:00 every day'")
    assert await page.run("document.querySelector('dialog').innerText.includes('all time')")
    await page.fill("#field-cron", "@hourly")
    await page.until(f"{PREVIEWED} === 'At minute 0 of every hour'")
    await page.click("dialog .primary")
    await page.until(f"{ROW}.includes('At minute 0 of every hour @hourly')")
    changed = (await api.get(f"{PATH}/{number}")).json()
    assert (changed["name"], changed["period"], changed["figures"]) == ("Nightly", None, [])
    await page.click(button.format(3))
    assert "The analyses that it has queued are kept" in await page.text("dialog")
    await page.click("dialog .row button:last-child")
    await page.until("!document.querySelector('dialog')")
    assert len((await api.get(PATH)).json()) == 1
    await page.click(".schedules tbody th a")
    await page.click(".title .row button:last-child")
    await page.click("dialog .primary")
    await page.until("document.querySelector('.notice')?.innerText.includes('There is no schedule yet')")
    assert (await api.get(PATH)).json() == []


async def test_a_schedule_that_does_not_exist(page: Page, api: httpx.AsyncClient) -> None:
    page.expect(404, f"{PATH}/99")
    await page.open(f"{api.base_url}/ui/schedules?schedule=99")
    refusal = (await api.get(f"{PATH}/99")).json()
    assert refusal["detail"] in await page.text(".notice.bad")
    assert await page.run("document.querySelectorAll('.notice').length") == 1


async def test_each_role_sees_what_it_may_do(page: Page, api_settings: Settings, database: Database) -> None:
    known = await keys(database)
    async with shown(page, msgspec.structs.replace(api_settings, auth="on")) as closed:
        closed.headers.update(bearer(known.admin))
        device = (await closed.post("/devices", json={"name": "Boiler, north"})).json()["id"]
        await make(closed, device)
        await page.open(f"{closed.base_url}/ui/schedules")
        await sign_in(page, known.analyst)
        await page.until("document.querySelector('.actions button')")
        assert await page.text(".title .primary") == "Create a schedule"
        await page.click(".tools .small")
        page.expect(401, "/session")
        page.expect(401, PATH)
        page.expect(403, PATH)
        await sign_in(page, known.writer)
        refusal = (await closed.get(PATH, headers=bearer(known.writer))).json()
        assert refusal["detail"] in await page.text(".notice.bad")
        assert await page.run("document.querySelector('.title .primary')") is None


async def test_the_list_and_the_preview_stay_while_the_database_is_away(
    page: Page, api: httpx.AsyncClient, device: int, database_url: str, postgres_server: str
) -> None:
    await make(api, device)
    await show(page, api)
    await page.key("n", "n")
    await page.until(f"{PREVIEWED} === 'At 02:00 every day'")
    page.expect(503, "/")
    async with services.database_away(postgres_server, database_url):
        await page.fill("#field-cron", "@hourly")
        assert "The page shows the last state" in await page.text(".banner")
        assert "At 02:00 every day" in await page.text(".schedules")
        assert await page.run(PREVIEWED) == "At 02:00 every day"
    await page.until(f"{PREVIEWED} === 'At minute 0 of every hour' && !document.querySelector('.banner')")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_it_can_be_used_by_everybody(
    page: Page, api: httpx.AsyncClient, device: int, database: Database, theme: str
) -> None:
    await page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    number = await make(api, device, name="Nightly")
    await database.execute(
        "INSERT INTO analysis_ticks (schedule_id, tick) VALUES (%s, %s)",
        (number, datetime.now(UTC) - timedelta(days=1)),
    )
    await show(page, api)
    assert await faults_of_access(page) == []
    await page.key("n", "n")
    await page.until(PREVIEWED)
    assert await faults_of_access(page) == []
    page.expect(422, f"{PATH}/preview")
    await page.fill("#field-cron", "x")
    await page.until("document.querySelector('#about-cron.fault')")
    assert await faults_of_access(page) == []
    await show(page, api, f"&schedule={number}")
    await page.until("document.querySelector('canvas')")
    assert await faults_of_access(page) == []
    await page.resize(390, 844, mobile=True)
    for query, ready in (("", ".schedules tbody tr"), (f"&schedule={number}", "canvas")):
        await show(page, api, query)
        await page.until(f"document.querySelector('{ready}')")
        assert await page.run("document.documentElement.scrollWidth") == 390
