"""The report inside Airflow's UI: the same self-contained page that publish stores, behind Airflow's own sign-in."""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import requires_access_asset
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from plugins.errors import LakeRefused, LakeUnreachable
from plugins.lake import Lake
from plugins.settings import Settings

REPORT = "report/index.html"


def report() -> HTMLResponse:
    """The published page; 404 before the first publication, 503 with one sentence when the lake does not answer."""
    lake = Lake(Settings.read())
    try:
        if REPORT not in lake.keys(REPORT):
            raise HTTPException(404, "Nothing is published yet: the report appears with the first successful run of the Dag `publish`.")
        return HTMLResponse(lake.get(REPORT))
    except (LakeUnreachable, LakeRefused) as error:
        raise HTTPException(503, str(error)) from error


def application() -> FastAPI:
    """A FastAPI application without its own documentation pages; every route needs the right to read assets."""
    router = APIRouter(dependencies=[Depends(requires_access_asset("GET"))])
    router.add_api_route("/report", report, methods=["GET"], response_class=HTMLResponse)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    return app
