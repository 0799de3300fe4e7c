"""Readings as they are stored: `handlers.py` answers with a stream of events.

`feeds.py` says whose readings this process wants and hears where they are; `reader.py` reads them, over one connection;
`credentials.py` confirms again and again that the listeners' keys hold, without which nothing is shown.
`feed.py` is those who listen to one device;
`listeners.py` has a queue for each client.
"""
