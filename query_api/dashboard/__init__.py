"""The dashboard: a page for browsers, on the endpoints of the API.

1. `shell.py` serves the page at `/` and at the paths below `/ui`. The page holds no data, so it needs no key.
2. `assets.py` serves its scripts and styles, and those of Swagger UI, below `/assets`. Each address has a version, so
   browsers keep them.
3. `static/` is the page. Its main.js starts it: router.js selects one of the `static/screens/`, which reads the API by
   api.js. `static/state/` has the functions that need no browser: times, zones, numbers, addresses. `static/plot/`
   draws, and `static/parts/` has the elements of several screens.

`vendored.py` lists the files of other projects, which `npm ci` installs by `package-lock.json` (ADR 46).
"""
