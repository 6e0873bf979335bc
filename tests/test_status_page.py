"""The operator's page in a real browser, with and without JavaScript; `make screenshots` keeps a picture of it."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import requests
from playwright.sync_api import Page, expect

from testing.images import DOG
from tests.conftest import EVENT_TIMEOUT_S, MakeService, Service, until
from tests.test_browser import (
    OpenPage,
    browser,  # noqa: F401
    expect_margins,
    open_page,  # noqa: F401
    problems,
    screenshot,
)

pytestmark = pytest.mark.browser

# The right edge of the element that reaches furthest, except those that scroll by themselves.
WIDEST = """Math.max(...[...document.querySelectorAll('main *:not(.table *)')]
    .map(e => e.getBoundingClientRect().right))"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service of two API processes, with reports and a quarantined image."""
    service = Service(tmp_path_factory.mktemp("status"), API_PROCESSES="2", CACHE_TTL_S="60").wait_until_ready()
    page = requests.post(f"{service.url}/", files={"file": ("dog.jpeg", DOG)}, timeout=60).text
    name = page.split("/display/")[1].split('"')[0]
    report = {"report": json.dumps({"filename": name, "prediction": "Eskimo_dog", "score": 0.64})}
    for label in ("Siberian husky", "malamute", "Siberian husky"):
        requests.post(f"{service.url}/feedback", data={**report, "label": label}, timeout=60).raise_for_status()
    set_aside(service)
    yield service
    service.stop()


def set_aside(service: Service) -> str:
    """Quarantine an image as if it had ended its workers, and return its hash."""
    image_hash = uuid4().hex * 2
    fields = {"image_name": f"{image_hash}.png", "job_id": uuid4().hex, "worker": "host-7-a1b2", "at_s": time.time()}
    with service.redis() as connection:
        connection.hset("{mlapi}:set-aside", image_hash, json.dumps(fields))
    return image_hash


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Have six callers send pictures all the time, some of them the same picture."""
    asking = True

    def ask(number: int) -> None:
        while asking:
            service.predict(DOG if number == 0 else DOG + uuid4().bytes)

    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(ask, number) for number in range(6)]
        try:
            yield
        finally:
            asking = False
    for call in calls:
        call.result()


def figure(page: Page, name: str) -> float:
    """Return one of the figures at the top of the page."""
    text = page.locator(".figures div").filter(has_text=name).locator("dd").first.inner_text()
    return float(text.split()[0])


@pytest.mark.usefixtures("browser")
def test_the_figures_come_anew_by_themselves_as_events(open_page: OpenPage, running: Service) -> None:  # noqa: F811
    with open_page(f"{running.url}/status") as page:
        opened = page.get_by_text("Reports and quarantined images are as of").inner_text()
        expect(page.get_by_text("alive")).to_have_count(2)
        before = page.locator("#live .asof time").inner_text()
        with load(running):
            assert until(lambda: page.locator("#live .asof time").inner_text() != before, EVENT_TIMEOUT_S)
            assert until(lambda: figure(page, "Predictions") > 0, EVENT_TIMEOUT_S)
            assert until(lambda: figure(page, "Of the limit") > 0, EVENT_TIMEOUT_S)
            expect(page.get_by_role("table").filter(has_text="Batches").get_by_role("row")).not_to_have_count(0)
        assert page.get_by_text("Reports and quarantined images are as of").inner_text() == opened
        expect(page.locator("canvas")).to_have_count(3)
        assert page.evaluate("JSON.parse(document.querySelector('#points').dataset.points)[1].length") > 0


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_reports_confusions_and_what_is_set_aside_are_shown_and_released(
    open_page: OpenPage,  # noqa: F811
    running: Service,
    scripted: bool,
) -> None:
    image_hash = set_aside(running)
    with open_page(f"{running.url}/status", java_script_enabled=scripted) as page:
        expect(page.locator(".reports img")).to_have_count(3)
        expect(page.locator(".reports img").first).to_have_js_property("naturalWidth", 729)
        rows = page.get_by_role("group", name="Confusions").get_by_role("row")
        expect(rows).to_have_text(["PredictedRightReports", "Eskimo dogSiberian husky2", "Eskimo dogmalamute1"])
        button = page.get_by_role("button", name=f"Release {image_hash[:16]}")
        button.click()
        expect(button).to_have_count(0)
        expect(page.get_by_role("link", name="Refresh")).to_be_visible(visible=not scripted)
        if not scripted:
            page.get_by_role("link", name="Refresh").click()
            expect(page.get_by_role("heading", name="Workers")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_it(open_page: OpenPage, running: Service, scheme: Any) -> None:  # noqa: F811
    with load(running), open_page(f"{running.url}/status", color_scheme=scheme) as page:
        assert until(lambda: page.locator(".batches").count(), EVENT_TIMEOUT_S)
        assert problems(page) == []
        red, green, blue = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)")
        assert (max(int(red), int(green), int(blue)) < 64) == (scheme == "dark")
        if scheme == "light" and "SCREENSHOTS" in os.environ:
            assert until(lambda: page.evaluate("JSON.parse(points.dataset.points)[0].length") > 5, EVENT_TIMEOUT_S)
            screenshot(page, "status")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(open_page: OpenPage, running: Service, width: int, scripted: bool) -> None:  # noqa: F811
    viewport: Any = {"width": width, "height": 844}
    options = {"viewport": viewport, "has_touch": True, "is_mobile": True, "java_script_enabled": scripted}
    with open_page(f"{running.url}/status", **options) as page:
        expect(page.locator("canvas")).to_have_count(3 if scripted else 0)
        assert page.evaluate(WIDEST) <= width


@pytest.mark.parametrize("width", [390, 600, 900, 1280])
def test_however_wide_the_window_is_nothing_touches_its_edge(
    open_page: OpenPage,  # noqa: F811
    running: Service,
    width: int,
) -> None:
    with open_page(f"{running.url}/status", viewport={"width": width, "height": 844}) as page:
        expect_margins(page, width)


def test_while_the_service_is_away_the_page_says_so_and_goes_on_when_it_is_back(
    open_page: OpenPage,  # noqa: F811
    make_service: MakeService,
) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    with open_page(f"{service.url}/status", expected="Failed to load|ERR_") as page:
        lost = page.get_by_text("The service does not answer")
        expect(lost).to_be_hidden()
        service.kill("mlapi api", signal.SIGKILL)
        expect(lost).to_be_visible()
        expect(lost).to_be_hidden()


def test_who_watches_does_not_keep_the_service_from_stopping(
    open_page: OpenPage,  # noqa: F811
    make_service: MakeService,
) -> None:
    service = make_service(INSTANCES="1", STOP_TIMEOUT_S="60").wait_until_ready()
    with open_page(f"{service.url}/status", expected="Failed to load|ERR_") as page:
        expect(page.get_by_text("alive")).to_have_count(1)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
