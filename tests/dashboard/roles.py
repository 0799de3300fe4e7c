"""Signing in for tests of screens."""

import json

import httpx

from tests.browser import Page


async def sign_in(page: Page, api: httpx.AsyncClient, key: str) -> None:
    """Sign the browser in as the page does, without typing the key."""
    page.expect(401, "/session")
    await page.open(f"{api.base_url}/ui/sign-in")
    await page.until("document.querySelector('.sign-in')")
    body = json.dumps({"key": key})
    status = await page.run(
        "fetch('/session', {method: 'POST', headers: {'Content-Type': 'application/json'}, "
        f"body: {body!r}}}).then(answer => answer.status)"
    )
    assert status == 201
