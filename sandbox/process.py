"""The sandbox as a child process, for tests and targets: `with running("--seed", "3") as child: child.json("/sandbox/health")`."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Child:
    """A running sandbox: its base address, and the line it printed when it was ready."""

    address: str
    ready_line: str

    def get(
        self, path: str, method: str = "GET", body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and bytes. A dropped connection raises as http.client does."""
        with contextlib.closing(http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=10)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def refusal(self, path: str, **params: object) -> tuple[int, Any]:
        """Status and parsed body of any answer."""
        status, _, body = self.get(f"{path}?{urlencode(params)}" if params else path)
        return status, json.loads(body)

    def json(self, path: str, **params: object) -> Any:
        """Parsed body of a success; another status raises RuntimeError."""
        status, value = self.refusal(path, **params)
        if status != 200:
            raise RuntimeError(f"HTTP {status} from {path} {params}: {str(value)[:200]}")
        return value


@contextlib.contextmanager
def running(*arguments: str, wait: float = 10.0) -> Iterator[Child]:
    """Starts `python -m sandbox --port 0 <arguments>`, ends it with SIGTERM. Raises RuntimeError when it does not start or end well."""
    command = [sys.executable, "-m", "sandbox", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
    with process:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("sandbox ready on "):
            process.kill()
            said = process.stderr.read() if process.stderr else ""
            raise RuntimeError(f"the sandbox did not start: {line}{said}")
        try:
            yield Child(line.split()[3], line.strip())
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(wait)
        if code != 0:
            raise RuntimeError(f"the sandbox ended with code {code} after SIGTERM")
