"""`mlapi classify` in local processes, with the default model, run as from the shell."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
DECODER_THAT_CRASHES = ROOT / "chaos" / "fake_decoder"
TIMEOUT_S = 120


@pytest.fixture
def photos(tmp_path: Path, dog: bytes) -> Path:
    """Make a folder with photos of a dog, and a white picture."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("1.jpg", "more/2.jpg"):
        (folder / name).write_bytes(dog)
    Image.new("RGB", (300, 300), "white").save(folder / "white.png")
    return folder


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    settings = {**os.environ, "INSTANCES": "1", **environment}
    command = [sys.executable, "-m", "mlapi", "classify", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*words: object, **environment: str) -> tuple[int, str, str]:
    """Return the exit status, standard output and standard error."""
    process = start(*words, **environment)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_images_are_printed_with_class_and_score(photos: Path) -> None:
    status, out, err = run(photos / "1.jpg", photos / "more")
    assert status == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert [(path, label) for path, label, _ in lines] == [
        (f"{photos}/1.jpg", "Eskimo_dog"),
        (f"{photos}/more/2.jpg", "Eskimo_dog"),
    ]
    assert all(abs(float(score) - 0.64) < 0.05 for _, _, score in lines)
    assert err.startswith("2 classified, 0 failed")


def test_the_most_probable_classes_are_told(photos: Path) -> None:
    file = photos / "results.csv"
    assert run(photos / "1.jpg", "--top-k", 3, "--out", file)[0] == 0
    [row] = rows(file)
    assert (row["label"], row["label_2"]) == ("Eskimo_dog", "Siberian_husky")
    assert float(row["score"]) > float(row["score_2"]) > float(row["score_3"]) > 0
    status, _, err = run(photos, "--out", file)
    assert status == 3
    assert "results.csv: was made with --top-k 3" in err
    [told] = json.loads(run(photos / "1.jpg", "--top-k", 3, "--json")[1])["results"]
    assert [each["label"] for each in told["top"]] == [row["label"], row["label_2"], row["label_3"]]


def test_bad_files_are_skipped_and_listed(photos: Path, dog: bytes) -> None:
    (photos / "text.jpg").write_text("no image")
    (photos / "cut.jpg").write_bytes(dog[: len(dog) // 2])
    (photos / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(photos / "pipe.jpg")
    status, _, err = run(photos, "--out", photos / "results.csv")
    assert status == 1
    found = {Path(row["path"]).name: row for row in rows(photos / "results.csv")}
    errors = {name: row["error"].partition(":")[0] for name, row in found.items()}
    assert errors == {
        "1.jpg": "",
        "2.jpg": "",
        "white.png": "",
        "text.jpg": "not-an-image",
        "cut.jpg": "not-an-image",
        "gone.jpg": "cannot-read",
        "pipe.jpg": "cannot-read",
    }
    assert "3 classified, 4 failed" in err
    assert all(f"{photos}/{name}: {found[name]['error']}" in err for name, error in errors.items() if error)


def test_a_file_beyond_the_limits_is_not_read_or_not_decoded(photos: Path) -> None:
    status, out, err = run(photos / "1.jpg", photos / "white.png", MAX_IMAGE_PIXELS="50000")
    assert (status, out) == (1, "")
    assert "too-many-pixels" in err
    _, _, err = run(photos / "1.jpg", MAX_IMAGE_PIXELS="1000")
    assert "too-many-bytes" in err


def test_what_came_of_it_is_one_json_object(photos: Path) -> None:
    (photos / "text.jpg").write_text("no image")
    status, out, _ = run(photos, "--json")
    told = json.loads(out)
    assert status == 1
    assert (told["classified"], told["failed"], told["done_before"], told["interrupted"]) == (3, 1, 0, False)
    assert [row["path"] for row in told["results"]] == [
        f"{photos}/{name}" for name in ("1.jpg", "more/2.jpg", "text.jpg", "white.png")
    ]
    assert [failure["path"] for failure in told["failures"]] == [f"{photos}/text.jpg"]
    assert "results" not in json.loads(run(photos, "--json", "--out", photos / "results.csv")[1])


@pytest.mark.parametrize("name", ["results.csv", "results.parquet"])
def test_a_second_run_does_what_was_added_since(photos: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    first = json.loads(run(photos, "--out", photos / name, "--json")[1])
    shutil.copy(photos / "1.jpg", photos / "3.jpg")
    second = json.loads(run(photos, "--out", photos / name, "--json")[1])
    third = json.loads(run(photos, "--out", photos / name, "--json")[1])
    assert [(told["classified"], told["done_before"]) for told in (first, second, third)] == [(3, 0), (1, 3), (0, 4)]


def test_images_are_sorted_into_folders_which_are_no_part_of_the_collection(photos: Path) -> None:
    into = photos / "sorted"
    for _ in range(2):
        assert run(photos, "--copy-into", into)[0] == 0
        copies = sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file())
        assert copies[:2] == ["Eskimo_dog/1.jpg", "Eskimo_dog/2.jpg"]
        assert len(copies) == 3


def test_what_was_classified_before_is_sorted_too(photos: Path, tmp_path: Path) -> None:
    file, into = tmp_path / "results.csv", tmp_path / "sorted"
    assert run(photos, "--out", file)[0] == 0
    for _ in range(2):
        status, _, err = run(photos, "--out", file, "--copy-into", into)
        assert status == 0, err
        assert "3 had a row before" in err
        assert {"1.jpg", "2.jpg"} <= {path.name for path in (into / "Eskimo_dog").iterdir()}
        assert len([path for path in into.rglob("*") if path.is_file()]) == 3


def test_a_collection_is_not_sorted_into_itself(photos: Path) -> None:
    status, _, err = run(photos, "--copy-into", f"{photos}/more/..")
    assert status == 2
    assert "is the collection itself" in err


def test_what_is_no_image_by_its_ending_is_said(photos: Path) -> None:
    (photos / "more" / "3.webp").touch()
    assert "were left out: 1 .webp" in run(photos / "more")[2]
    assert json.loads(run(photos / "more", "--json")[1])["left_out"] == {".webp": 1}
    (photos / "none").mkdir()
    status, _, err = run(photos / "none")
    assert status == 0
    assert f"There are no images in {photos}/none." in err


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_said(photos: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "mlapi", "classify", str(photos / "1.jpg"), *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 3
    assert "standard output: cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing-here"], "There is nothing at nothing-here"),
        (["tests", "--out", "results.txt"], "should end in .csv, .jsonl, .parquet"),
        (["tests", "--top-k", "6"], "not in the range 1<=x<=5"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_command_line_is_2(words: list[str], said: str) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert said in err


def test_what_keeps_it_from_beginning_is_3(photos: Path) -> None:
    status, _, err = run(photos, "--out", photos / "results.csv", MODEL=str(photos))
    assert status == 3
    assert "model.toml: not found" in err
    assert "Run the same command again" not in err
    assert "Traceback" not in err


def test_an_image_that_ends_its_process_costs_itself_alone(photos: Path) -> None:
    Image.new("RGB", (13, 17), "red").save(photos / "more" / "crash.png")  # on which that decoder crashes
    status, _, err = run(photos, "--out", photos / "results.csv", PYTHONPATH=str(DECODER_THAT_CRASHES))
    assert status == 1, err
    found = {Path(row["path"]).name: row["error"].partition(":")[0] for row in rows(photos / "results.csv")}
    assert found == {"1.jpg": "", "2.jpg": "", "crash.png": "ended-process", "white.png": ""}


@pytest.fixture
def many(photos: Path) -> Path:
    """Make a folder of 400 photos."""
    for number in range(400):
        shutil.copy(photos / "1.jpg", photos / "more" / f"{number:03d}.jpg")
    return photos / "more"


def processes_of(session: int) -> list[int]:
    """Return the processes of a session, without zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, its_session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
        except (OSError, IndexError, NotADirectoryError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "results.csv"),
        (signal.SIGKILL, "results.parquet"),
        (signal.SIGINT, "results.csv"),
        (signal.SIGTERM, "results.jsonl"),
    ],
)
def test_an_interrupted_run_is_gone_on_with_and_nothing_is_lost_or_done_twice(
    many: Path, tmp_path: Path, number: signal.Signals, name: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    file = tmp_path / name
    kept = tmp_path / f"{name}.rows" if name.endswith(".parquet") else file
    process = start(many, "--out", file, INSTANCES="2")
    until(lambda: kept.exists() and kept.read_bytes().count(b"\n") > 20)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    assert ("Run the same command again" in err) == (number != signal.SIGKILL)
    until(lambda: not processes_of(process.pid))
    told = json.loads(run(many, "--out", file, "--json")[1])
    assert told["done_before"] > 0
    assert told["classified"] > 0
    assert told["classified"] + told["done_before"] == 401
    assert sorted(paths_in(file)) == sorted(str(path) for path in many.iterdir())


def paths_in(file: Path) -> list[str]:
    if file.suffix == ".csv":
        return [row["path"] for row in rows(file)]
    if file.suffix == ".jsonl":
        return [json.loads(line)["path"] for line in file.read_text().splitlines()]
    parquet = pytest.importorskip("pyarrow.parquet")
    paths: list[str] = parquet.read_table(file)["path"].to_pylist()
    return paths
