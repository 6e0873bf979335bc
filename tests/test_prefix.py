"""The service under a path prefix (`/mlapi/`), in a real browser behind a proxy that strips it."""

import re
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page, expect

from testing.images import DOG
from tests.conftest import EVENT_TIMEOUT_S, Service, mlapi_key, until
from tests.proxy import PrefixProxy, serving_under
from tests.test_browser import (
    OpenPage,
    browser,  # noqa: F401
    cards,
    expect_the_dog,
    open_page,  # noqa: F401
    send,
)

pytestmark = pytest.mark.browser

Auth = dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrefixProxy, str]]:
    """Return the proxy and a key for the service behind it; no request may go outside of the prefix."""
    folder = tmp_path_factory.mktemp("prefix")
    key = mlapi_key(folder / "keys.json", "add", "alice")
    settings = {"TRUSTED_PROXIES": "1", "API_KEYS_FILE": str(folder / "keys.json"), "INSTANCES": "1"}
    service = Service(folder, **settings).wait_until_ready()
    with serving_under("/mlapi", service.url) as proxy:
        yield proxy, key
    service.stop()


@pytest.fixture
def proxy(served: tuple[PrefixProxy, str]) -> Iterator[PrefixProxy]:
    proxy, _ = served
    yield proxy
    assert proxy.strays == []


@pytest.fixture
def credentials(served: tuple[PrefixProxy, str]) -> Auth:
    return {"username": "anybody", "password": served[1]}


def report(page: Page) -> None:
    page.get_by_text("Wrong?").click()
    page.get_by_label("What does it show?").fill("siberian husky")
    page.get_by_role("button", name="Report").click()
    expect(page.get_by_role("status")).to_contain_text("Thank you")


@pytest.mark.parametrize("scripted", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_photo_is_classified_and_reported_and_the_report_taken_back(
    open_page: OpenPage,  # noqa: F811
    proxy: PrefixProxy,
    credentials: Auth,
    scripted: bool,
) -> None:
    with open_page(f"{proxy.url}/", http_credentials=credentials, java_script_enabled=scripted) as page:
        send(page, ("dog.jpeg", DOG))
        expect_the_dog(cards(page))
        if scripted:
            expect(page.get_by_role("link", name="Eskimo dog").locator("img")).to_have_js_property("naturalWidth", 729)
        report(page)
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text("Taken back. Still wrong?")).to_be_visible()
        assert page.url.startswith(f"{proxy.url}/")


def test_a_form_without_a_picture_leads_back_to_the_page(
    open_page: OpenPage,  # noqa: F811
    proxy: PrefixProxy,
    credentials: Auth,
) -> None:
    with open_page(f"{proxy.url}/", http_credentials=credentials, java_script_enabled=False) as page:
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_role("alert")).to_contain_text("Choose an image first")
        assert page.url == f"{proxy.url}/?error=no-file"


def test_the_operators_page_goes_on_by_itself(
    open_page: OpenPage,  # noqa: F811
    proxy: PrefixProxy,
    credentials: Auth,
) -> None:
    with open_page(f"{proxy.url}/", http_credentials=credentials) as page:
        send(page, ("dog.jpeg", DOG))
        report(page)
        page.goto(f"{proxy.url}/status")
        before = page.locator("#live .asof time").get_attribute("datetime")
        assert until(lambda: page.locator("#live .asof time").get_attribute("datetime") != before, EVENT_TIMEOUT_S)
        expect(page.locator("canvas")).to_have_count(3)
        expect(page.locator(".reports img").first).to_have_js_property("naturalWidth", 729)


def test_the_documentation_tries_a_request(
    open_page: OpenPage,  # noqa: F811
    proxy: PrefixProxy,
    credentials: Auth,
) -> None:
    with open_page(f"{proxy.url}/docs", http_credentials=credentials) as page:
        page.get_by_text("List the models that are served").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".request-url")).to_contain_text(f"{proxy.url}/v1/models")
        expect(page.locator(".live-responses-table")).to_contain_text("efficientnet-lite0")


def test_a_program_follows_where_it_is_led(proxy: PrefixProxy, credentials: Auth) -> None:
    auth = (credentials["username"], credentials["password"])
    url, later = f"{proxy.url}/v1/predictions", {"Prefer": "respond-async"}
    location = requests.post(url, auth=auth, files={"file": DOG}, headers=later, timeout=60).headers["Location"]
    assert re.fullmatch(r"/mlapi/v1/predictions/[0-9a-f]{32}", location)
    done = requests.get(f"http://{proxy.host}{location}?wait=30", auth=auth, timeout=60)
    assert done.json()["results"][0]["predictions"][0]["label"] == "Eskimo_dog"
