"""Ports of loopback for the embedded services."""

from __future__ import annotations

import os
import socket
from contextlib import closing

from plugins.errors import ConfigurationError


def free_port() -> int:
    """A port of loopback nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ui_port() -> int:
    """The port of Airflow's UI: TIDEGAUGE_UI_PORT, which must be free, or any free one."""
    wanted = os.environ.get("TIDEGAUGE_UI_PORT", "") or "0"
    if not wanted.isdecimal() or int(wanted) > 65535:
        raise ConfigurationError(f"TIDEGAUGE_UI_PORT={wanted!r} is no port: use 1024 to 65535, or leave it out for any free one.")
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(wanted)))
        except OSError as error:
            raise ConfigurationError(
                f"TIDEGAUGE_UI_PORT={wanted} cannot be used ({error.strerror}): choose another, or leave it out for any free one."
            ) from None
        return int(probe.getsockname()[1])
