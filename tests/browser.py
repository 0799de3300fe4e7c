"""Headless Chromium that tests drive over pipes (https://chromedevtools.github.io/devtools-protocol/).

A page notes exceptions, errors on the console, violations of its policy, and the hosts that it asks.
"""

import asyncio
import base64
import itertools
import json
import os
import re
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import chromium
from tests.waiting import HANG_S

_NOTE_VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile, lineNumber }) =>
        violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`));
"""
Message = Mapping[str, Any]


class BrowserError(Exception):
    """The browser refused a command, or a script failed."""


class Connection:
    """Commands to the browser, and its events by session. A thread reads, so that any event loop can send commands."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._numbers = itertools.count(1)
        self._answers: dict[int, Future[Message]] = {}
        self._listeners: dict[str, Callable[[str, Message], None]] = {}
        self._thread = threading.Thread(target=self._read, name="browser")
        self._thread.start()

    def listen(self, session: str, listener: Callable[[str, Message], None]) -> None:
        """Pass the events of the session to the listener, as method and parameters."""
        self._listeners[session] = listener

    def close(self) -> None:
        """End the browser, and wait for the end of its messages."""
        os.close(self._to_browser)
        self._thread.join(HANG_S)
        os.close(self._from_browser)

    def _read(self) -> None:
        rest = b""
        while part := os.read(self._from_browser, 1 << 16):
            *messages, rest = (rest + part).split(b"\0")
            for message in messages:
                self._take(json.loads(message))
        for answer in self._answers.values():
            answer.set_exception(BrowserError("the browser has ended"))

    def _take(self, message: Message) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).set_result(message)
        elif message.get("sessionId") in self._listeners:
            self._listeners[message["sessionId"]](message["method"], message["params"])

    async def send(self, method: str, session: str | None = None, **parameters: object) -> Message:
        """Send a command, and return its result. Raises BrowserError."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        answer = self._answers[number] = Future()
        await asyncio.to_thread(_write, self._to_browser, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(HANG_S):
            answered = await asyncio.wrap_future(answer)
        if "error" in answered:
            raise BrowserError(f"{method}: {answered['error']['message']}")
        result: Message = answered["result"]
        return result


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


class Page:
    """A tab. `faults`: exceptions and errors on the console. `asked`: every address that it requested.

    A response of an error, or a request without a response, is a fault unless the test expects it (`expect`), or has
    ended (`has_ended`): then its services stop.
    """

    has_ended = False

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection = connection
        self._session = session
        self.faults: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self.asked: list[str] = []
        self.sizes: dict[str, float] = {}
        self._urls: dict[str, str] = {}
        connection.listen(session, self._note)

    def _note(self, method: str, parameters: Message) -> None:
        match method:
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.faults.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error" and not self._is_late(parameters):
                self.faults.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.asked.append(parameters["request"]["url"])
                self._urls[parameters["requestId"]] = parameters["request"]["url"]
            case "Network.loadingFinished":
                url = self._urls.get(parameters["requestId"], "")
                self.sizes[url] = parameters["encodedDataLength"]

    def _is_late(self, parameters: Message) -> bool:
        return self.has_ended and bool(parameters["entry"]["source"] == "network")

    def expect(self, status: int | None, path: str) -> None:
        """Expect requests of the path, or of paths below it or with a query, to fail. `status`: None: no response."""
        cause = r"net::\S+" if status is None else rf"the server responded with a status of {status} \([^)]*\)"
        self._expected.append(
            re.compile(rf"Failed to load resource: {cause} https?://[^/]+{re.escape(path.rstrip('/'))}(?:[/?].*)?$")
        )

    @property
    def unexpected(self) -> list[str]:
        """The faults that the test does not expect."""
        return [fault for fault in self.faults if not any(one.match(fault) for one in self._expected)]

    @property
    def hosts(self) -> set[str]:
        """The hosts of all requests."""
        return {urlsplit(url).netloc for url in self.asked if url.startswith("http")}

    async def send(self, method: str, **parameters: object) -> Message:
        """Send a command to the tab."""
        return await self._connection.send(method, self._session, **parameters)

    async def start(self) -> None:
        """Switch on the events."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.send("Page.addScriptToEvaluateOnNewDocument", source=_NOTE_VIOLATIONS)

    async def hurry(self, times: int) -> None:
        """Divide the delays of timers by `times`, on pages that are opened later."""
        source = f"(later => window.setTimeout = (work, ms, ...rest) => later(work, ms / {times}, ...rest))(setTimeout)"
        await self.send("Page.addScriptToEvaluateOnNewDocument", source=source)

    async def open(self, url: str) -> None:
        """Go to the address."""
        answer = await self.send("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        await self.until("document.readyState === 'complete'")

    async def run(self, expression: str) -> Any:
        """Return the value of the expression, or of its promise."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until the expression is true, and return its value; True for an element."""
        expression = f"(found => found instanceof Node ? true : found)(({expression}))"
        within = asyncio.get_running_loop().time() + HANG_S
        while not (found := await self._tried(expression)):
            if asyncio.get_running_loop().time() > within:
                raise TimeoutError(f"{expression}\n{await self.run('document.body.innerText')}\n{self.faults}")
            await asyncio.sleep(0.02)
        return found

    async def _tried(self, expression: str) -> Any:
        try:
            return await self.run(expression)
        except BrowserError:  # the page is loading
            return None

    async def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        found: str = await self.until(f"document.querySelector({json.dumps(selector)})?.innerText")
        return found

    async def place(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll the element into view, and return its left, top, width and height."""
        name = json.dumps(selector)
        await self.until(f"document.querySelector({name}) !== null")
        found = await self.run(
            f"(e => (e.scrollIntoView({{block: 'center'}}), r => [r.left, r.top, r.width, r.height])"
            f"(e.getBoundingClientRect()))(document.querySelector({name}))"
        )
        left, top, width, height = found
        return left, top, width, height

    async def mouse(self, kind: str, x: float, y: float, *, held: bool = False, clicks: int = 1) -> None:
        """Send an event of the mouse: mouseMoved, mousePressed or mouseReleased."""
        button = "left" if held or kind != "mouseMoved" else "none"
        await self.send(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(held), clickCount=clicks
        )

    async def click(self, selector: str) -> None:
        """Click the middle of the element."""
        left, top, width, height = await self.place(selector)
        x, y = left + width / 2, top + height / 2
        await self.mouse("mouseMoved", x, y)
        await self.mouse("mousePressed", x, y, held=True)
        await self.mouse("mouseReleased", x, y)

    async def drag(self, selector: str, begin: float, end: float) -> None:
        """Drag over the element, from one fraction of its width to another."""
        left, top, width, height = await self.place(selector)
        y = top + height / 2
        await self.mouse("mouseMoved", left + begin * width, y)
        await self.mouse("mousePressed", left + begin * width, y, held=True)
        for step in range(1, 9):
            await self.mouse("mouseMoved", left + (begin + (end - begin) * step / 8) * width, y, held=True)
        await self.mouse("mouseReleased", left + end * width, y)

    async def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Send a touch event: touchStart, touchMove or touchEnd."""
        await self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    async def key(self, name: str, text: str = "") -> None:
        """Press a key. `text`: what it types."""
        await self.send("Input.dispatchKeyEvent", type="keyDown", key=name, **({"text": text} if text else {}))
        await self.send("Input.dispatchKeyEvent", type="keyUp", key=name)

    async def type(self, text: str) -> None:
        """Type a text into the element with the focus."""
        await self.send("Input.insertText", text=text)

    async def fill(self, selector: str, text: str) -> None:
        """Replace the content of an input."""
        await self.click(selector)
        await self.run(f"document.querySelector({json.dumps(selector)}).select()")
        await self.type(text)

    async def resize(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        """Set the size of the window in CSS pixels."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        await self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)

    async def screenshot(self, target: Path, *, whole: bool = False) -> None:
        """Write a picture of the window, or of the whole page."""
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(target.write_bytes, base64.b64decode(answer["data"]))

    async def violations(self) -> list[str]:
        """Return the violations of the page's policy since it was loaded."""
        found: list[str] = await self.run("violations")
        return found


class Browser:
    """A running browser."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """Open a tab with a profile of its own for the block."""
        context = (await self._connection.send("Target.createBrowserContext"))["browserContextId"]
        target = await self._connection.send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self._connection.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self._connection, attached["sessionId"])
        try:
            await page.start()
            yield page
        finally:
            await self._connection.send("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Run Chromium for the block."""
    to_browser, from_browser = os.pipe(), os.pipe()

    def place_pipes() -> None:
        os.dup2(to_browser[0], 3)
        os.dup2(from_browser[1], 4)

    process = subprocess.Popen(
        chromium.command(profile),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(3, 4), preexec_fn=place_pipes,
    )  # fmt: skip
    os.close(to_browser[0])
    os.close(from_browser[1])
    connection = Connection(to_browser[1], from_browser[0])
    try:
        yield Browser(connection)
    finally:
        connection.close()
        process.wait(HANG_S)


@pytest.fixture(scope="session")
def running_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of this worker."""
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running
