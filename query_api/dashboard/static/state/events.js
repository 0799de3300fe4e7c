/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as this API writes them. */

/** @typedef {{name: string, data: any}} ServerEvent `data`: what its JSON holds */

export class EventParser {
  #rest = "";

  /** @param {(event: ServerEvent) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
  }

  /**
   * Read the next part of the stream, which may end within an event.
   *
   * @param {string} text
   */
  push(text) {
    const events = (this.#rest + text).split("\n\n");
    this.#rest = events.pop() ?? "";
    for (const event of events) this.#read(event);
  }

  /** @param {string} event */
  #read(event) {
    const fields = new Map(event.split("\n").map(line => /** @type {[string, string]} */ (line.split(/: (.*)/s))));
    const data = fields.get("data");
    if (data !== undefined) this.onEvent({ name: fields.get("event") ?? "message", data: JSON.parse(data) });
  }
}
