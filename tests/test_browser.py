"""The page in a real browser, with and without JavaScript."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.conftest import MakeService, mlapi_key
from tests.images import BAD_FILES, DOG

pytestmark = pytest.mark.browser

# Without these, Chromium looks for updates and accounts in a network that tests have no business with.
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Generous, as for a busy machine.
TIMEOUT_S = 60
expect.set_options(timeout=1000 * TIMEOUT_S)

# The right edge, in pixels, of whatever reaches furthest, also where it is cut off.
WIDEST_TEXT = "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"


@pytest.fixture(scope="module")  # its event loop must not be left running in the thread of other tests
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        stop = pytest.fail if request.config.getoption("--require-browser") else pytest.skip
        stop("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def page(request: pytest.FixtureRequest, browser: Browser, base_url: str) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=request.param)
    yield from open_page(context, base_url)


def open_page(context: BrowserContext, base_url: str) -> Iterator[Page]:
    """Yield the page; fail if anything in it went wrong unnoticed."""
    page = context.new_page()
    page.set_default_timeout(1000 * TIMEOUT_S)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda failed: problems.append(failed.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(base_url)
    yield page
    context.close()
    assert problems == []


def choose(page: Page, name: str, data: bytes) -> None:
    page.get_by_label("Drop a picture here").set_input_files({"name": name, "mimeType": "image/jpeg", "buffer": data})


def test_a_photo_is_classified_and_reported_as_wrong(page: Page) -> None:
    choose(page, "dog.jpeg", DOG)
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_text("Eskimo dog")).to_be_visible()
    expect(page.get_by_text(re.compile(r"6[34]\.\d % sure"))).to_be_visible()  # its precision is the processor's
    assert page.get_by_alt_text("The uploaded picture").evaluate("image => image.naturalWidth") == 729
    _screenshot(page, "answer")
    page.get_by_role("button", name="This is wrong").click()
    expect(page.get_by_role("status")).to_contain_text("Thank you")


def test_a_file_that_is_no_image_is_answered_in_words(page: Page) -> None:
    choose(page, "notes.jpg", BAD_FILES["a text"][1])
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_contain_text("not a PNG, JPEG or GIF")


def test_a_chosen_photo_is_shown_before_it_is_sent(browser: Browser, base_url: str) -> None:
    for page in open_page(browser.new_context(), base_url):
        choose(page, "dog.jpeg", DOG)
        preview = page.locator("img.preview")
        expect(preview).to_be_visible()
        expect(preview).to_have_js_property("naturalWidth", 729)


def test_the_page_fits_a_phone(browser: Browser, base_url: str) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640}, color_scheme="dark")
    for page in open_page(context, base_url):
        choose(page, "dog.jpeg", DOG)
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_text("Eskimo dog")).to_be_visible()
        assert page.evaluate(WIDEST_TEXT) <= 320
        _screenshot(page, "phone")


def test_a_picture_opened_on_its_own_is_shown_and_belongs_to_no_origin(browser: Browser, base_url: str) -> None:
    for page in open_page(browser.new_context(), base_url):
        choose(page, "dog.jpeg", DOG)
        page.get_by_role("button", name="Classify").click()
        picture = page.get_by_alt_text("The uploaded picture").get_attribute("src")
    alone = browser.new_page()
    alone.goto(f"{base_url}{picture}")
    assert alone.locator("img").evaluate("image => image.naturalWidth") == 729
    assert alone.evaluate("origin") == "null"
    alone.close()


def test_with_a_key_as_the_password_the_page_works_as_ever(
    browser: Browser, make_service: MakeService, tmp_path: Path
) -> None:
    key = mlapi_key(tmp_path / "keys.json", "add", "alice")
    service = make_service(INSTANCES="1", API_KEYS_FILE=str(tmp_path / "keys.json")).wait_until_ready()
    context = browser.new_context(http_credentials={"username": "anybody", "password": key})
    for page in open_page(context, service.url):
        choose(page, "dog.jpeg", DOG)
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_text("Eskimo dog")).to_be_visible()
        expect(page.get_by_alt_text("The uploaded picture")).to_have_js_property("naturalWidth", 729)
        page.get_by_role("button", name="This is wrong").click()
        expect(page.get_by_role("status")).to_contain_text("Thank you")


def test_a_form_on_another_sites_page_is_refused(browser: Browser, base_url: str) -> None:
    page = browser.new_page()
    page.set_content(f'<form action="{base_url}/feedback" method="post"><input name="report" value="x"><button>')
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("a page of another site")
    page.close()


def _screenshot(page: Page, name: str) -> None:
    """Keep a picture of the page in $SCREENSHOTS, for people to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
