"""The worker starts without the framework of the API."""

import subprocess
import sys

_IMPORTED = """
import sys
import query_api.worker.service
print([name for name in sys.modules if name.split(".")[0] == "litestar" or name.startswith("query_api.web")])
"""


def test_the_worker_imports_neither_litestar_nor_the_web_package() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
