"""The fetcher against a real HTTP server on loopback that answers as venues do on good and on bad days."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import multiprocessing
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from aiohttp import web
from tenacity import wait_random_exponential

from plugins import fetcher
from plugins.fetcher import REFUSALS, Fetched, fetch
from tests.unit.http_venue import WINDOW, Handler, Paths, Venue, cut, first, good, slow, status
from transforms.sources.contract import Series


@pytest.fixture
def venue(monkeypatch) -> Iterator[Venue]:
    monkeypatch.setattr(fetcher, "BACKOFF", wait_random_exponential(multiplier=0.01, max=0.05))
    monkeypatch.setattr(fetcher, "_limiters", {})
    served = Venue()
    yield served
    served.stop()


def ask_all(
    venue: Venue, paths: str, *, options: dict[str, str] | None = None, hosts: dict[str, str] | None = None, **how
) -> list[Fetched]:
    series = Series("paths", "any", paths, WINDOW, None, tuple((options or {}).items()))
    addresses = hosts or {"main": venue.url, "other": f"{venue.url}/elsewhere"}
    return fetch(Paths(), [series], hosts=addresses, now=lambda: datetime.now(UTC), **({"timeout": 2.0} | how))


def outcomes(fetched: Sequence[Fetched]) -> list[tuple[str, str, str, int]]:
    return [(one.ask.path, one.disposition.verb, one.disposition.reason_code, one.attempts) for one in fetched]


# -- good days


def test_answers_come_in_the_order_of_the_asks(venue):
    async def uneven(request: web.Request) -> web.Response:
        await asyncio.sleep(0.05 if request.path.endswith("0") else 0)
        return await good(request)

    venue.on["*"] = uneven
    paths = " ".join(f"/{n}" for n in range(40))
    fetched = ask_all(venue, paths, in_flight=8)
    assert outcomes(fetched) == [(f"/{n}", "accept", "", 1) for n in range(40)]
    assert all(one.answer.body == f'{{"path": "/{n}"}}'.encode() for n, one in enumerate(fetched))
    assert all(one.answer.fetched_at.tzinfo is UTC and one.answer.status == 200 for one in fetched)


def test_the_project_says_its_name_and_bodies_are_stored_decoded(venue):
    async def zipped(request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"}, content_type="application/json")

    venue.on["/z"] = zipped
    (one,) = ask_all(venue, "/z", contact="ops@example.org")
    assert one.answer.body == b'{"a": 1}'
    assert venue.arrivals[0][2]["User-Agent"].startswith("tidegauge/")
    assert "ops@example.org" in venue.arrivals[0][2]["User-Agent"]


def test_pages_follow_their_first_and_progress_counts_them(venue):
    seen: list[tuple[int, int]] = []
    fetched = ask_all(venue, "/a/1 /b/1", options={"pages": "3"}, progress=lambda done, total: seen.append((done, total)))
    assert [one.ask.path for one in fetched] == ["/a/1", "/a/2", "/a/3", "/b/1", "/b/2", "/b/3"]
    assert seen[-1] == (6, 6)
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5, 6]


def test_nothing_to_ask_is_nothing_fetched(venue):
    assert ask_all(venue, "") == []


def test_a_host_without_address_is_named_before_anything_is_sent(venue):
    with pytest.raises(ValueError, match="no address for other of paths"):
        ask_all(venue, "/a", hosts={"main": venue.url})
    assert not venue.arrivals


# -- bad days


def test_a_passing_fault_is_tried_again(venue):
    venue.on["/a"] = first(status(500), 2)
    venue.on["/b"] = first(cut, 1)
    venue.on["/c"] = first(slow, 1)
    assert outcomes(ask_all(venue, "/a /b /c", timeout=0.5)) == [("/a", "accept", "", 3), ("/b", "accept", "", 2), ("/c", "accept", "", 2)]


@pytest.mark.parametrize(
    ("handler", "code", "said"),
    [(status(503), 503, "HTTP 503"), (status(429), 429, "HTTP 429"), (cut, 0, "ayload"), (slow, 0, "no answer within 0.2 s")],
    ids=["503", "429", "cut", "slow"],
)
def test_a_lasting_fault_is_given_up_with_its_last_words(venue, handler, code, said):
    venue.on["/a"] = handler
    bad, fine = ask_all(venue, "/a /b", attempts=3, timeout=0.2)
    assert (bad.disposition.verb, bad.disposition.reason_code, bad.attempts) == ("reject", "HTTP_EXHAUSTED", 3)
    assert said in bad.disposition.detail
    assert "after 3 attempts" in bad.disposition.detail
    assert bad.answer.status == code
    assert fine.disposition.verb == "accept"


def test_nobody_listening_is_a_reason_too(venue):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    (one,) = ask_all(venue, "/a", hosts={"main": address, "other": address}, attempts=2)
    assert (one.disposition.reason_code, one.answer.status, one.attempts) == ("HTTP_EXHAUSTED", 0, 2)
    assert b"Connect" in one.answer.body


def test_retry_after_is_obeyed_by_all_asks_of_the_host(venue):
    venue.on["/a"] = first(status(429, Retry_After="1"), 1)
    paths = "/a " + " ".join(f"/{n}" for n in range(6))
    fetched = ask_all(venue, paths, in_flight=1)
    assert outcomes(fetched)[0] == ("/a", "accept", "", 2)
    times = [at for at, path, _ in venue.arrivals if path == "/a"]
    assert times[1] - times[0] >= 0.95
    together = ask_all(venue, "/a", in_flight=1)
    assert together[0].attempts == 1

    venue.arrivals.clear()
    venue.on["/h"] = first(status(429, Retry_After="1"), 1)
    ask_all(venue, "/h " + " ".join(f"/later/{n}" for n in range(20)), in_flight=2, options={"budget": "tight"})
    warned = next(at for at, path, _ in venue.arrivals if path == "/h")
    assert [path for at, path, _ in venue.arrivals if warned + 0.1 < at < warned + 0.9] == []


def test_a_longer_wait_than_our_patience_is_not_waited_for(venue):
    venue.on["/a"] = status(429, Retry_After="86400")
    began = time.monotonic()
    (one,) = ask_all(venue, "/a")
    assert (one.disposition.reason_code, one.attempts) == ("HTTP_EXHAUSTED", 1)
    assert time.monotonic() - began < 2


def test_a_long_silence_asked_by_the_host_does_not_hold_the_other_asks(venue):
    venue.on["/a"] = status(429, Retry_After="86400")
    began = time.monotonic()
    fetched = ask_all(venue, "/a /b /c other/x", in_flight=1)
    assert [one.disposition.verb for one in fetched] == ["reject"] * 3 + ["accept"]
    assert [one.attempts for one in fetched] == [1, 0, 0, 1]
    assert time.monotonic() - began < 2


def test_a_ban_stops_the_host_at_once_and_the_rest_comes_back_unsent(venue):
    venue.on["/3"] = status(418)
    paths = " ".join([*(f"/{n}" for n in range(30)), "other/x", "other/y"])
    fetched = ask_all(venue, paths, in_flight=1)
    assert len(fetched) == 32
    assert [one.disposition.verb for one in fetched[:3]] == ["accept"] * 3
    assert {(one.disposition.reason_code, one.attempts) for one in fetched[4:30]} == {("HTTP_BANNED", 0)}
    assert all(one.answer.status == 0 and one.answer.body.startswith(b"not sent") for one in fetched[4:30])
    assert [one.disposition.verb for one in fetched[30:]] == ["accept"] * 2
    assert sum(venue.counts.values()) == 6


@pytest.mark.parametrize("code", [403, 451])
def test_a_refusal_stops_the_host_after_a_few(venue, code):
    venue.on["*"] = status(code)
    fetched = ask_all(venue, " ".join(f"/{n}" for n in range(25)), in_flight=1)
    assert {one.disposition.reason_code for one in fetched} == {"HTTP_BLOCKED"}
    assert [one.attempts for one in fetched] == [1] * REFUSALS + [0] * (25 - REFUSALS)
    assert sum(venue.counts.values()) == REFUSALS


def test_a_page_of_markup_is_rejected_and_kept(venue):
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>maintenance</html>", content_type="text/html")

    venue.on["/a"] = page
    (one,) = ask_all(venue, "/a")
    assert (one.disposition.reason_code, one.answer.body, one.attempts) == ("CONTENT_TYPE", b"<html>maintenance</html>", 1)


@pytest.mark.parametrize("bomb", [False, True], ids=["plain", "gzip bomb"])
def test_a_huge_answer_is_cut_and_rejected(venue, monkeypatch, bomb):
    monkeypatch.setattr(fetcher, "BODY_LIMIT", 2**20)

    async def huge(request: web.Request) -> web.Response:
        body = b"[" + b"0," * 5_000_000
        coded = {"Content-Encoding": "gzip"} if bomb else {}
        return web.Response(body=gzip.compress(body) if bomb else body, headers=coded, content_type="application/json")

    venue.on["/a"] = huge
    (one,) = ask_all(venue, "/a", timeout=20.0)
    assert (one.disposition.verb, one.disposition.reason_code) == ("reject", "MALFORMED")
    assert "larger than 1048576 bytes" in one.disposition.detail
    assert len(one.answer.body) == fetcher.KEPT_OF_TOO_LARGE


def test_every_ask_ends_once_whatever_the_venue_does(venue):
    faults = [good, status(500), cut, status(404), status(418), status(451), status(200, "<html>"), slow, status(302, Location="/0")]
    for n in range(45):
        venue.on[f"/{n}"] = faults[n % len(faults)]
    fetched = ask_all(venue, " ".join(f"/{n}" for n in range(45)), attempts=2, timeout=0.2, in_flight=5)
    assert [one.ask.path for one in fetched] == [f"/{n}" for n in range(45)]
    assert {one.disposition.verb for one in fetched} == {"accept", "reject"}
    assert all(one.disposition.reason_code for one in fetched if one.disposition.verb == "reject")


# -- companions


def test_a_companion_comes_with_its_ask(venue):
    venue.on["/f.zip.CHECKSUM"] = first(status(500), 1, then=_text("abc  f.zip"))
    (one,) = ask_all(venue, "/f.zip", options={"companion": "yes"})
    assert (one.disposition.verb, one.answer.companion, one.attempts) == ("accept", b"abc  f.zip", 2)


def test_a_missing_companion_leaves_the_verdict_to_the_decoder(venue):
    venue.on["/f.zip.CHECKSUM"] = status(404)
    (one,) = ask_all(venue, "/f.zip", options={"companion": "yes"})
    assert (one.disposition.verb, one.answer.companion) == ("accept", b"")


def test_a_ban_on_the_companion_is_a_ban(venue):
    venue.on["/f.zip.CHECKSUM"] = status(418)
    (one,) = ask_all(venue, "/f.zip", options={"companion": "yes"})
    assert one.disposition.reason_code == "HTTP_BANNED"


def _text(body: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/plain")

    return handler


# -- budgets


def most_within(times: Sequence[float], span: float) -> int:
    return max(sum(1 for other in times if at <= other < at + span) for at in times)


def test_no_span_holds_more_than_the_budget_even_from_two_callers(venue):
    """20 in 0.5 s, from two threads at once: they share one limiter."""
    tight = {"budget": "tight"}
    found: dict[int, list[Fetched]] = {}

    def caller(number: int) -> None:
        found[number] = ask_all(venue, " ".join(f"/{number}/{n}" for n in range(30)), options=tight)

    threads = [threading.Thread(target=caller, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    times = [at for at, _, _ in venue.arrivals]
    assert len(times) == 60
    assert most_within(times, 0.45) <= 20  # arrivals jitter by some milliseconds against departures
    assert times[-1] - times[0] < 60 / 20 * 0.5 * 2  # and the budget is used


def test_a_scaled_budget_is_wider(venue):
    ask_all(venue, " ".join(f"/{n}" for n in range(60)), options={"budget": "tight"}, budget_scale=100.0)
    assert venue.arrivals[-1][0] - venue.arrivals[0][0] < 1.0


def test_heavy_asks_spend_their_weight(venue):
    """Four asks of 20 at 40 a second: a first at once, then one every second."""
    began = time.monotonic()
    ask_all(venue, "/a /b /c /d", options={"budget": "heavy", "weight": "20"})
    assert most_within([at for at, _, _ in venue.arrivals], 0.95) <= 2
    assert time.monotonic() - began > 2.0


# -- the key


def test_the_key_travels_in_its_header_and_is_nowhere_else(venue, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "k-5e1f0c"
    venue.on["/a"] = first(status(500), 1, then=status(200, Set_Cookie="session=1"))
    venue.on["/gone"] = status(404)
    fetched = ask_all(venue, "/a /gone", key=secret)
    assert all(headers["api_key"] == secret for _, _, headers in venue.arrivals)
    assert secret not in repr(fetched)
    assert secret not in caplog.text
    assert all("set-cookie" not in {name.lower() for name in one.answer.headers} for one in fetched)


def test_a_redirect_is_not_followed_with_the_key(venue):
    venue.on["/a"] = status(302, Location="/elsewhere")
    (one,) = ask_all(venue, "/a", key="k-5e1f0c")
    assert (one.disposition.reason_code, venue.counts["/elsewhere"]) == ("HTTP_STATUS", 0)


# -- processes


def _in_child(url: str, into) -> None:
    series = Series("paths", "any", "/child", WINDOW)
    fetched = fetch(Paths(), [series], hosts={"main": url, "other": url}, now=lambda: datetime.now(UTC))
    into.send(outcomes(fetched))


def test_a_forked_child_fetches_on_a_loop_of_its_own(venue):
    """Airflow's workers are forks of a parent that may have fetched already."""
    ask_all(venue, "/parent")
    here, there = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(venue.url, there))
    child.start()
    assert here.poll(20), "the child did not answer"
    assert here.recv() == [("/child", "accept", "", 1)]
    child.join(10)
    assert child.exitcode == 0


def test_counts_of_a_busy_venue_add_up(venue):
    venue.on["*"] = good
    series = [Series("paths", "any", " ".join(f"/{s}/{n}" for n in range(25)), WINDOW) for s in range(8)]
    hosts: Mapping[str, str] = {"main": venue.url, "other": venue.url}
    fetched = fetch(Paths(), series, hosts=hosts, now=lambda: datetime.now(UTC), in_flight=32)
    by_series = defaultdict(list)
    for one in fetched:
        by_series[one.ask.series].append(one.ask.path)
    assert [by_series[one] for one in series] == [one.instrument.split() for one in series]
    assert set(venue.counts.values()) == {1}


def test_what_is_posted_arrives_and_tells_questions_apart(venue):
    async def echo(request: web.Request) -> web.Response:
        return web.json_response({"asked": await request.json(), "by": request.method, "type": request.content_type})

    venue.on["*"] = echo
    fetched = [
        *ask_all(venue, "/info", options={"body": '{"type": "meta"}'}),
        *ask_all(venue, "/info", options={"body": '{"type": "funding"}'}),
    ]
    assert [json.loads(one.answer.body) for one in fetched] == [
        {"asked": {"type": name}, "by": "POST", "type": "application/json"} for name in ("meta", "funding")
    ]
    assert len({one.ask.question for one in fetched}) == 2
