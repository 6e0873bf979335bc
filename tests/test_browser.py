"""The page in a real browser, with and without JavaScript; `make screenshots` keeps pictures of it."""

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, Route, expect, sync_playwright

from testing.images import BAD_FILES, DOG, forms
from tests.conftest import MakeService, Service, mlapi_key

pytestmark = pytest.mark.browser

# Without these, Chromium looks for updates and accounts on the network.
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Generous, for a busy machine.
TIMEOUT_S = 60
expect.set_options(timeout=1000 * TIMEOUT_S)

# The right edge, in pixels, of the element that reaches furthest, even if it is cut off.
WIDEST_TEXT = "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text()

NOT_AN_IMAGE = BAD_FILES["a text"][1]
TOP_FIVE = re.compile(r"(Eskimo dog|Siberian husky|dogsled|malamute|timber wolf)\s*\d+\.\d %")

File = tuple[str, bytes]
OpenPage = Callable[..., AbstractContextManager[Page]]


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


@pytest.fixture
def open_page(browser: Browser, base_url: str) -> OpenPage:
    """Open the page in a browser with some options; fail on any error in it that is not `expected`."""

    @contextmanager
    def open_page(url: str = base_url, expected: str = "", **options: Any) -> Iterator[Page]:
        context = browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(1000 * TIMEOUT_S)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(url)
        yield page
        context.close()
        assert [problem for problem in problems if not expected or not re.search(expected, problem)] == []

    return open_page


@pytest.fixture
def page(open_page: OpenPage) -> Iterator[Page]:
    with open_page() as page:
        yield page


def send(page: Page, *files: File) -> None:
    """Choose files; without JavaScript, press the button too."""
    page.get_by_label("Choose pictures").set_input_files(payloads(*files))
    classify = page.get_by_role("button", name="Classify")
    if classify.is_visible():
        classify.click()


def payloads(*files: File) -> list[FilePayload]:
    return [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files]


def cards(page: Page) -> Locator:
    return page.get_by_role("article")


def data_transfer(page: Page, *files: File) -> Any:
    """Return a browser's data transfer of dropped or pasted files."""
    encoded = [{"name": name, "data": base64.b64encode(data).decode()} for name, data in files]
    return page.evaluate_handle(
        """files => {
          const transfer = new DataTransfer();
          for (const { name, data } of files) {
            const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
          }
          return transfer;
        }""",
        encoded,
    )


def expect_the_dog(card: Locator) -> None:
    expect(card.get_by_role("heading")).to_have_text("Eskimo dog")
    expect(card.get_by_role("listitem")).to_have_text([TOP_FIVE] * 5)
    expect(card.get_by_role("listitem").first).to_have_text(re.compile(r"Eskimo dog\s*6[34]\.\d %"))  # as precise as
    expect(card.get_by_text(re.compile(r"\d+ ms, [^;]* by\s+\S+"))).to_be_visible()  # the processor is
    expect(card.get_by_alt_text("The uploaded picture")).to_have_js_property("naturalWidth", 729)


# With and without JavaScript


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_photo_is_classified_and_what_it_really_shows_is_stored(
    open_page: OpenPage, make_service: MakeService, scripted: bool
) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    with open_page(service.url, java_script_enabled=scripted) as page:
        send(page, ("dog.jpeg", DOG))
        expect_the_dog(cards(page))
        page.get_by_text("Wrong?").click()
        page.get_by_label("What does it show?").fill("siberian husky")
        screenshot(page, "wrong" if scripted else "plain")
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("status")).to_contain_text("Thank you")
        expect(page.get_by_role("status")).to_contain_text("it is “Siberian husky”")
        [report] = reports(service)
        assert report.keys() == {"filename", "prediction", "score", "label", "id"}
        assert (report["prediction"], report["label"]) == ("Eskimo_dog", "Siberian_husky")
        assert (service.folder / "feedback" / "images" / str(report["filename"])).read_bytes() == DOG

        page.get_by_role("button", name="Undo").click()
        page.get_by_text("Taken back").click()
        assert reports(service) == []
        page.get_by_role("button", name="None of these").click()
        expect(page.get_by_role("status")).to_contain_text("no class for it")
        assert [report["label"] for report in reports(service)] == [None]


def reports(service: Service) -> list[dict[str, object]]:
    return [json.loads(line) for line in (service.folder / "feedback" / "feedback").read_text().splitlines()]


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_of_several_files_a_bad_one_is_answered_in_words_beside_it(open_page: OpenPage, scripted: bool) -> None:
    with open_page(expected="status of 400", java_script_enabled=scripted) as page:
        send(page, ("dog.jpeg", DOG), ("notes.jpg", NOT_AN_IMAGE), ("dog.png", forms()["PNG"].data))
        expect(cards(page)).to_have_count(3)
        expect_the_dog(cards(page).nth(0))
        expect(cards(page).nth(1).get_by_role("alert")).to_contain_text("not a PNG, JPEG or GIF")
        expect(cards(page).nth(1)).to_contain_text("notes.jpg")
        expect_the_dog(cards(page).nth(2))
        if scripted:
            screenshot(page, "several")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_file_that_is_no_image_is_answered_in_words(open_page: OpenPage, scripted: bool) -> None:
    with open_page(expected="status of 400", java_script_enabled=scripted) as page:
        send(page, ("notes.jpg", NOT_AN_IMAGE))
        expect(page.get_by_role("alert")).to_contain_text("not a PNG, JPEG or GIF")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_while_one_writes_the_models_labels_are_suggested(open_page: OpenPage, scripted: bool) -> None:
    with open_page(expected="status of 400", java_script_enabled=scripted) as page:
        send(page, ("dog.jpeg", DOG))
        page.get_by_text("Wrong?").click()
        field = page.get_by_label("What does it show?")
        field.focus()
        expect(page.locator("#labels option")).to_have_count(997)  # of 1000 classes, some share their name
        assert field.get_attribute("list") == "labels"
        field.fill("husky")
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("alert")).to_contain_text("no such class, but: Siberian husky")
        expect(page.get_by_label("What does it show?")).to_have_value("husky")


def test_without_javascript_an_empty_form_says_what_is_missing(open_page: OpenPage) -> None:
    with open_page(java_script_enabled=False) as page:
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_role("alert")).to_contain_text("Choose an image first")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_the_form_says_how_large_what_it_sends_at_once_may_be(open_page: OpenPage, scripted: bool) -> None:
    with open_page(java_script_enabled=scripted) as page:
        hint = page.get_by_text("PNG, JPEG or GIF")
        limit = "up to 10 MB." if scripted else "up to 10 MB together."
        expect(hint).to_contain_text(limit, use_inner_text=True)


# Ways to add pictures


def test_pictures_can_be_dropped_anywhere_on_the_page(page: Page) -> None:
    files = {"dataTransfer": data_transfer(page, ("a.jpeg", DOG), ("b.jpeg", DOG))}
    page.dispatch_event("body", "dragover", files)
    expect(page.locator("#upload")).to_have_class("over")
    page.dispatch_event("h1", "drop", files)
    expect(page.locator("#upload")).not_to_have_class("over")
    expect(cards(page)).to_have_count(2)
    for card in cards(page).all():
        expect_the_dog(card)


def test_a_picture_can_be_pasted(page: Page) -> None:
    page.evaluate(
        "files => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true }))",
        data_transfer(page, ("image.png", DOG)),
    )
    expect_the_dog(cards(page))


def test_the_same_file_can_be_chosen_twice(page: Page) -> None:
    for count in (1, 2):
        send(page, ("dog.jpeg", DOG))
        expect(cards(page)).to_have_count(count)


def test_a_phone_takes_a_photo(open_page: OpenPage) -> None:
    with open_page(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}) as page:
        expect(page.get_by_text("Take a photo")).to_be_visible()
        camera = page.get_by_label("Take a photo")
        assert camera.get_attribute("capture") == "environment"
        camera.set_input_files(payloads(("dog.jpeg", DOG)))
        expect_the_dog(cards(page))


def test_by_keyboard_alone_a_photo_is_chosen_reported_and_the_report_taken_back(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose pictures")).to_be_focused()
    send(page, ("dog.jpeg", DOG))  # as with Enter, and then with the browser's own dialog
    expect_the_dog(cards(page))
    for key in ("Tab", "Enter", "Tab", "m", "Backspace", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("status")).to_contain_text("Thank you")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Taken back")).to_be_focused()


# Between choosing and the answer


@contextmanager
def held_answers(page: Page) -> Iterator[list[Route]]:
    """Hold back the page's requests until the context ends."""
    held: list[Route] = []
    page.route("**/", lambda route: held.append(route))
    yield held
    for route in held:
        route.continue_()


def test_a_picture_and_its_progress_are_shown_before_it_is_answered(page: Page) -> None:
    with held_answers(page):
        send(page, ("dog.jpeg", DOG))
        expect(cards(page)).to_contain_text("dog.jpeg")
        expect(cards(page).get_by_role("img")).to_have_js_property("naturalWidth", 729)
        expect(cards(page).get_by_role("progressbar")).to_be_visible()
        screenshot(page, "progress")
    expect_the_dog(cards(page))


def test_nothing_moves_when_the_answer_comes(open_page: OpenPage) -> None:
    for width in (1280, 390, 320):
        with open_page(viewport={"width": width, "height": 900}) as page:
            page.evaluate(
                """() => {
                  window.shifts = 0;
                  const add = ({ value }) => { window.shifts += value; };
                  new PerformanceObserver(list => list.getEntries().forEach(add)).observe({ type: "layout-shift" });
                }"""
            )
            with held_answers(page):
                send(page, ("a.jpeg", DOG), ("b.jpeg", DOG))
                expect(cards(page).get_by_role("progressbar")).to_have_count(2)
                before = cards(page).nth(1).bounding_box()
            expect(cards(page).get_by_role("heading")).to_have_count(2)
            assert cards(page).nth(1).bounding_box() == before
            assert page.evaluate("window.shifts") < 0.01


def test_a_file_that_is_too_large_is_not_even_sent(page: Page) -> None:
    with held_answers(page) as sent:
        send(page, ("large.jpg", DOG + bytes(10_000_000)))
        expect(cards(page).get_by_role("alert")).to_contain_text("at most 10 MB")
        assert sent == []


def test_when_the_connection_breaks_the_picture_can_be_sent_again(open_page: OpenPage) -> None:
    with open_page(expected="ERR_FAILED|htmx:|undefined") as page:
        page.route("**/", lambda route: route.abort())
        send(page, ("dog.jpeg", DOG))
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        page.unroute("**/")
        page.get_by_role("button", name="Try again").click()
        expect_the_dog(cards(page))


def test_when_the_connection_breaks_a_report_can_be_sent_again(open_page: OpenPage) -> None:
    with open_page(expected="ERR_FAILED|htmx:|undefined") as page:
        send(page, ("dog.jpeg", DOG))
        page.get_by_text("Wrong?").click()
        page.route("**/feedback", lambda route: route.abort())
        page.get_by_role("button", name="None of these").click()
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        page.unroute("**/feedback")
        page.get_by_role("button", name="None of these").click()
        expect(page.get_by_role("status")).to_contain_text("Thank you")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_report_that_cannot_be_kept_is_there_to_be_sent_again(
    open_page: OpenPage, make_service: MakeService, scripted: bool
) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    file = service.folder / "feedback" / "feedback"
    file.mkdir(parents=True)
    with open_page(service.url, expected="status of 503", java_script_enabled=scripted) as page:
        send(page, ("dog.jpeg", DOG))
        page.get_by_text("Wrong?").click()
        page.get_by_label("What does it show?").fill("malamute")
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("alert")).to_contain_text("cannot be kept")
        expect(page.get_by_label("What does it show?")).to_have_value("malamute")
        file.rmdir()
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("status")).to_contain_text("it is “malamute”")

        file.rename(file.with_name("moved"))
        file.mkdir()
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("alert")).to_contain_text("cannot be taken back")
        file.rmdir()
        file.with_name("moved").rename(file)
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("Taken back").click()
        assert reports(service) == []


# Answers of proxies in the service's place: the bundled HAProxy's, without an API, and nginx's.
NO_API = {"status": 503, "json": {"success": False, "prediction": None, "score": None}}
BAD_GATEWAY = {"status": 502, "body": "<html><body><center><h1>502 Bad Gateway</h1></center></body></html>"}
TOO_LARGE = {"status": 413, "body": "<html><body><center><h1>413 Request Entity Too Large</h1></center></body></html>"}

UNREACHABLE = re.compile(r"^\s*The service does not answer, or the connection is gone\.\s+Try again\s*$")


@pytest.mark.parametrize("answer", [NO_API, BAD_GATEWAY, TOO_LARGE], ids=["HAProxy", "nginx", "nginx's limit"])
def test_when_a_proxy_answers_in_the_services_place_pictures_and_reports_can_be_sent_again(
    open_page: OpenPage, answer: Any
) -> None:
    with open_page(expected="status of (502|503|413)") as page:
        page.route("**/", lambda route: route.fulfill(**answer))
        send(page, ("dog.jpeg", DOG))
        expect(cards(page).locator(".answer")).to_have_text(UNREACHABLE)
        page.unroute("**/")
        page.get_by_role("button", name="Try again").click()
        expect_the_dog(cards(page))

        page.get_by_text("Wrong?").click()
        page.get_by_label("What does it show?").fill("malamute")
        page.route("**/feedback", lambda route: route.fulfill(**answer))
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        page.unroute("**/feedback")
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("status")).to_contain_text("it is “malamute”")


def test_a_report_that_is_refused_unread_is_there_to_be_sent_again(open_page: OpenPage) -> None:
    with open_page(expected="status of 413") as page:
        send(page, ("dog.jpeg", DOG))
        page.get_by_text("Wrong?").click()
        page.get_by_label("What does it show?").fill("malamute")
        page.evaluate("document.querySelector('[name=report]').value += ' '.repeat(1e6)")
        for _ in range(2):
            page.get_by_role("button", name="Report").click()
            expect(page.get_by_role("alert")).to_contain_text("too large")
        expect(page.get_by_label("What does it show?")).to_have_value("malamute")


# Earlier pictures


def test_pictures_of_earlier_visits_are_shown_until_they_are_forgotten(page: Page) -> None:
    recent = page.get_by_role("region", name="Recent")
    expect(recent).to_be_hidden()
    send(page, ("dog.jpeg", DOG))
    expect_the_dog(cards(page))
    page.reload()
    expect(cards(page)).to_have_count(0)
    link = recent.get_by_role("link", name="Eskimo dog")
    expect(link.locator("img")).to_have_js_property("naturalWidth", 729)
    assert re.fullmatch("/display/[0-9a-f]{64}.jpeg", link.get_attribute("href") or "")
    recent.get_by_role("button", name="Forget these").click()
    expect(recent).to_be_hidden()
    page.reload()
    expect(recent).to_be_hidden()


def test_pictures_that_the_service_does_not_keep_any_more_are_forgotten(open_page: OpenPage) -> None:
    gone = json.dumps([{"url": f"/display/{'0' * 64}.png", "label": "gone"}])
    with open_page(expected="status of 404") as page:
        page.evaluate("gone => localStorage.setItem('recent', gone)", gone)
        page.reload()
        expect(page.get_by_role("region", name="Recent")).to_be_hidden()
        assert page.evaluate("localStorage.getItem('recent')") == "[]"


# Accessibility


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(open_page: OpenPage, scheme: Any) -> None:
    with open_page(expected="status of 400", color_scheme=scheme) as page:
        assert problems(page) == []
        with held_answers(page):
            send(page, ("dog.jpeg", DOG), ("notes.jpg", NOT_AN_IMAGE))
            expect(cards(page).get_by_role("progressbar")).to_have_count(2)
            assert problems(page) == []
        expect_the_dog(cards(page).first)
        page.get_by_text("Wrong?").click()
        page.get_by_label("What does it show?").fill("husky")
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("alert")).to_have_count(2)
        assert problems(page) == []
        page.get_by_role("button", name="None of these").click()
        expect(page.get_by_role("status")).to_be_visible()
        assert problems(page) == []


def problems(page: Page) -> list[str]:
    """Return the violations of WCAG's rules that axe finds in the page as it is now."""
    page.evaluate(AXE)
    # It would copy the stylesheets into the page, which does not allow that, for a rule about turned phones.
    found = page.evaluate("axe.run({ preload: false }).then(results => results.violations)")
    return [f"{each['impact']}: {each['help']}: {[node['html'] for node in each['nodes']]}" for each in found]


def test_the_page_is_dark_where_the_system_is(open_page: OpenPage) -> None:
    with open_page(color_scheme="dark") as page:
        send(page, ("dog.jpeg", DOG))
        expect_the_dog(cards(page))
        red, green, blue = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)")
        assert max(int(red), int(green), int(blue)) < 64
        screenshot(page, "dark")


def test_the_page_is_light_where_the_system_is(open_page: OpenPage) -> None:
    with open_page(color_scheme="light") as page:
        send(page, ("dog.jpeg", DOG))
        expect_the_dog(cards(page))
        red, green, blue = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)")
        assert min(int(red), int(green), int(blue)) > 224
        screenshot(page, "page")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
@pytest.mark.parametrize("width", [320, 390])
def test_the_page_fits_a_phone(open_page: OpenPage, width: int, scripted: bool) -> None:
    viewport: Any = {"width": width, "height": 844}
    with open_page(viewport=viewport, has_touch=True, is_mobile=True, java_script_enabled=scripted) as page:
        send(page, ("a photo with quite a long name, as cameras and people like to give them.jpeg", DOG))
        expect_the_dog(cards(page))
        page.get_by_text("Wrong?").click()
        assert page.evaluate(WIDEST_TEXT) <= width
        if scripted and width == 390:
            screenshot(page, "phone")


def expect_margins(page: Page, width: int) -> None:
    """Check that the page fits within its window's width."""
    box = page.locator("form, #live").first.bounding_box()
    assert box
    assert box["x"] >= 10
    assert box["x"] + box["width"] <= width - 10


@pytest.mark.parametrize("width", [390, 600, 800, 1280])
def test_however_wide_the_window_is_nothing_touches_its_edge(open_page: OpenPage, width: int) -> None:
    with open_page(viewport={"width": width, "height": 844}) as page:
        expect_margins(page, width)


def test_a_picture_opened_on_its_own_is_shown_and_belongs_to_no_origin(
    browser: Browser, page: Page, base_url: str
) -> None:
    send(page, ("dog.jpeg", DOG))
    picture = page.get_by_role("region", name="Recent").get_by_role("link").get_attribute("href")
    alone = browser.new_page()
    alone.goto(f"{base_url}{picture}")
    assert alone.locator("img").evaluate("image => image.naturalWidth") == 729
    assert alone.evaluate("origin") == "null"
    alone.close()


def test_with_a_key_as_the_password_the_page_works_as_ever(
    open_page: OpenPage, make_service: MakeService, tmp_path: Path
) -> None:
    key = mlapi_key(tmp_path / "keys.json", "add", "alice")
    service = make_service(INSTANCES="1", API_KEYS_FILE=str(tmp_path / "keys.json")).wait_until_ready()
    with open_page(service.url, http_credentials={"username": "anybody", "password": key}) as page:
        send(page, ("dog.jpeg", DOG))
        expect_the_dog(cards(page))
        expect(page.get_by_role("link", name="Eskimo dog").locator("img")).to_have_js_property("naturalWidth", 729)
        page.get_by_text("Wrong?").click()
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("status")).to_contain_text("Thank you")


def test_a_form_on_another_sites_page_is_refused(browser: Browser, base_url: str) -> None:
    page = browser.new_page()
    page.set_content(f'<form action="{base_url}/feedback" method="post"><input name="report" value="x"><button>')
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("a page of another site")
    page.close()


def test_the_documentation_shows_every_endpoint_and_tries_one(open_page: OpenPage, base_url: str) -> None:
    with open_page(f"{base_url}/docs") as page:
        expect(page.locator(".opblock-summary-path")).to_have_count(9)
        expect(page.locator(".opblock-tag")).to_have_text(["Predictions", "Feedback", "Models", "Problems"])
        page.get_by_text("List the models that are served").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table")).to_contain_text("efficientnet-lite0")


@pytest.mark.parametrize("media_type", ["multipart/form-data", "application/json", "image/jpeg"])
def test_on_the_documentations_page_an_image_is_classified_by_each_way_to_send_it(
    open_page: OpenPage, base_url: str, media_type: str
) -> None:
    with open_page(f"{base_url}/docs") as page:
        page.get_by_text("Classify one image or many").click()
        page.get_by_role("button", name="Try it out").click()
        body = page.locator(".opblock-section-request-body")
        expect(body.get_by_role("combobox")).to_have_value("multipart/form-data")
        body.get_by_role("combobox").select_option(media_type)
        if media_type == "application/json":
            expect(body.get_by_role("textbox")).to_have_value(re.compile('"data"'))  # an image, to begin with
        else:
            body.locator("input[type=file]").set_input_files(payloads(("dog.jpeg", DOG)))
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response-col_status").last).to_have_text("200")
        expect(page.locator(".live-responses-table")).to_contain_text('"predictions"')


def screenshot(page: Page, name: str) -> None:
    """Keep a picture of the page in $SCREENSHOTS, for people to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        size = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        page.set_viewport_size({"width": size[0], "height": size[1]})  # or a phone would be photographed as a desktop
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.quantize(256).save(Path(folder) / f"{name}.png", optimize=True)
