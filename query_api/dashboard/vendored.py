"""The files of npm packages that the service serves, and that the wheel contains.

pyproject.toml repeats this list for wheels (tests/unit/test_vendored.py).
"""

MODULES = "node_modules"
LIT, UPLOT, SWAGGER_UI = (f"{MODULES}/{package}" for package in ("lit-html", "uplot/dist", "swagger-ui-dist"))
SERVED = (
    f"{LIT}/lit-html.js",
    f"{LIT}/async-directive.js",
    f"{LIT}/directive.js",
    f"{LIT}/directive-helpers.js",
    f"{LIT}/directives/live.js",
    f"{LIT}/directives/ref.js",
    f"{LIT}/directives/repeat.js",
    f"{UPLOT}/uPlot.iife.min.js",
    f"{UPLOT}/uPlot.min.css",
    f"{SWAGGER_UI}/swagger-ui-bundle.js",
    f"{SWAGGER_UI}/swagger-ui.css",
)
LICENSES = (
    f"{MODULES}/lit-html/LICENSE",
    f"{MODULES}/uplot/LICENSE",
    f"{MODULES}/swagger-ui-dist/LICENSE",
    f"{MODULES}/swagger-ui-dist/NOTICE",
    f"{MODULES}/swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt",
)
"""Their licenses require that copies contain these files."""
