"""The pixels of a canvas in a page."""

import json

from tests.browser import Page

_COUNT = """
((canvas, wanted, left, right) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let found = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = Math.floor(left * width); x < Math.floor(right * width); x += 1) {
      const at = 4 * (y * width + x);
      const near = wanted.every((value, channel) => Math.abs(value - data[at + channel]) < 40);
      if (near && data[at + 3] > 200) found += 1;
    }
  }
  return found;
})
"""


async def pixels(page: Page, pane: int, colour: str, left: float = 0, right: float = 1, *, opacity: float = 1) -> int:
    """Count the pixels of a pane that have nearly the colour of a custom property.

    `left`, `right`: fractions of the width of the pane's canvas, between which they are counted. `opacity`: of the
    colour on the surface of a card.
    """
    canvas = f"document.querySelectorAll('time-plot .u-wrap canvas, time-plot canvas')[0] && {_canvas(pane)}"
    await page.until(canvas)
    over, under = await _rgb(page, colour), await _rgb(page, "surface")
    wanted = [opacity * front + (1 - opacity) * back for front, back in zip(over, under, strict=True)]
    found: int = await page.run(f"{_COUNT}({_canvas(pane)}, {json.dumps(wanted)}, {left}, {right})")
    return found


def _canvas(pane: int) -> str:
    return f"document.querySelectorAll('time-plot .uplot canvas')[{pane}]"


async def _rgb(page: Page, colour: str) -> list[float]:
    """Return the channels of a custom property as the browser computes them."""
    computed: str = await page.run(
        "(probe => { document.body.append(probe); probe.style.color = "
        f"'var(--{colour})'; const found = getComputedStyle(probe).color; probe.remove(); return found; }})"
        "(document.createElement('span'))"
    )
    return [float(part) for part in computed.partition("(")[2].rstrip(")").replace(",", " ").split()[:3]]
