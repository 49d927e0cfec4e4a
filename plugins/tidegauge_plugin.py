"""What Airflow shows of us: the report as a page of its UI, for signed-in users. This file only lists; the parts live in plugins/web."""

import sys
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin


class TidegaugePlugin(AirflowPlugin):
    """Registers the page. The web application is made only in the API server: importing FastAPI costs every other process a second."""

    name = "tidegauge"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = []
    external_views: ClassVar[list[dict[str, Any]]] = [
        {"name": "Tidegauge", "href": "/tidegauge/report", "destination": "nav", "category": "browse", "url_route": "tidegauge"},
    ]

    if "api-server" in sys.argv:
        from plugins.web.app import application

        fastapi_apps = [{"app": application(), "url_prefix": "/tidegauge", "name": "tidegauge"}]
