"""The service from outside, over HTTP. $BASE_URL names a running one; without it, one is started."""

import html
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from testing.images import BAD_FILES, DOG, forms, save

FAILED = {"success": False, "prediction": None, "score": None}
FORMS = forms()


def predict(base_url: str, data: bytes, filename: str = "dog.jpeg") -> requests.Response:
    return requests.post(f"{base_url}/predict", files={"file": (filename, data)}, timeout=60)


def test_the_dog_is_an_eskimo_dog(base_url: str) -> None:
    response = predict(base_url, DOG)
    assert response.status_code == 200
    assert response.json() == {"success": True, "prediction": "Eskimo_dog", "score": pytest.approx(0.64, abs=0.005)}
    assert response.json()["score"] == round(response.json()["score"], 4)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_an_image_is_classified_as_a_person_sees_it(base_url: str, name: str) -> None:
    form = FORMS[name]
    answer = predict(base_url, form.data, form.filename).json()
    expected = predict(base_url, save(form.seen.convert("RGB"), "PNG"), "seen.png").json()
    assert answer["success"]
    assert answer["prediction"] == expected["prediction"]
    assert answer["score"] == pytest.approx(expected["score"], abs=0.05)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_and_the_service_goes_on(base_url: str, name: str) -> None:
    filename, data, status = BAD_FILES[name]
    response = predict(base_url, data, filename)
    assert (response.status_code, response.json()) == (status, FAILED)
    assert response.headers["X-Error"]
    assert predict(base_url, DOG).status_code == 200


def test_every_prediction_says_where_its_time_went(base_url: str) -> None:
    timing = predict(base_url, DOG).headers["Server-Timing"]
    assert re.fullmatch(
        r'queue;dur=[\d.]+, decode;dur=[\d.]+, inference;dur=[\d.]+, batch;desc="\d+", total;dur=[\d.]+', timing
    )


def test_get_predict_is_not_allowed(base_url: str) -> None:
    assert requests.get(f"{base_url}/predict", timeout=60).status_code == 405


def test_a_request_without_a_file_is_refused(base_url: str) -> None:
    response = requests.post(f"{base_url}/predict", timeout=60)
    assert (response.status_code, response.json()) == (400, FAILED)


def test_an_upload_of_unknown_length_is_classified(base_url: str) -> None:
    prepared = requests.Request("POST", f"{base_url}/predict", files={"file": ("dog.jpeg", DOG)}).prepare()
    body = prepared.body
    assert isinstance(body, bytes)
    pieces = (body[start : start + 5000] for start in range(0, len(body), 5000))
    response = requests.post(
        f"{base_url}/predict", data=pieces, headers={"Content-Type": prepared.headers["Content-Type"]}, timeout=60
    )
    assert response.json()["prediction"] == "Eskimo_dog"


def test_many_people_who_send_the_same_image_at_once_all_get_the_answer(base_url: str) -> None:
    image = save(FORMS["PNG"].seen.rotate(3), "PNG")
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: predict(base_url, image, "same.png").json(), range(64)))
    assert all(answer["success"] for answer in answers)
    assert len({answer["prediction"] for answer in answers}) == 1


def test_good_images_are_classified_while_bad_ones_fail_beside_them(base_url: str) -> None:
    files = [DOG, BAD_FILES["truncated JPEG"][1]] * 20
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda data: predict(base_url, data).status_code, files))
    assert statuses == [200, 400] * 20


def test_the_page_shows_the_picture_its_class_and_takes_a_report(base_url: str) -> None:
    page = requests.post(f"{base_url}/", files={"file": ("dog.jpeg", DOG)}, timeout=60)
    assert page.status_code == 200
    assert "Eskimo dog" in page.text
    picture = requests.get(base_url + re.findall(r'src="(/display/[^"]+)"', page.text)[0], timeout=60)
    assert picture.content == DOG
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert picture.headers["X-Content-Type-Options"] == "nosniff"
    report = html.unescape(re.findall(r'name="report" value="([^"]+)"', page.text)[0])
    assert json.loads(report)["prediction"] == "Eskimo_dog"
    assert "Thank you" in requests.post(f"{base_url}/feedback", data={"report": report}, timeout=60).text


@pytest.mark.parametrize("files", [{}, {"file": ("notes.jpg", b"no image")}])
def test_a_page_upload_that_is_no_image_leads_back_with_a_message(
    base_url: str, files: dict[str, tuple[str, bytes]]
) -> None:
    response = requests.post(f"{base_url}/", files=files, allow_redirects=False, timeout=60)
    assert response.status_code == 302
    page = requests.get(requests.compat.urljoin(base_url, response.headers["Location"]), timeout=60)
    assert 'role="alert"' in page.text


def test_the_address_of_reports_shows_the_page_and_takes_no_empty_one(base_url: str) -> None:
    assert requests.get(f"{base_url}/feedback", timeout=60).status_code == 200
    assert requests.post(f"{base_url}/feedback", timeout=60).status_code == 400
    assert requests.post(f"{base_url}/feedback", json={"report": "words"}, timeout=60).json() == {"success": True}


@pytest.mark.parametrize("path", ["/display/..%2f..%2f..%2fetc%2fpasswd", "/display/%2e%2e/feedback/feedback"])
def test_nothing_outside_the_uploads_is_displayed(base_url: str, path: str) -> None:
    session = requests.Session()
    request = requests.Request("GET", base_url).prepare()
    request.url = base_url + path  # as written: requests would tidy the path up
    assert session.send(request, timeout=60).status_code == 404


def test_the_service_is_alive_and_ready(base_url: str) -> None:
    assert requests.get(f"{base_url}/livez", timeout=60).status_code == 200
    assert requests.get(f"{base_url}/readyz", timeout=60).json()["status"] == "ready"
