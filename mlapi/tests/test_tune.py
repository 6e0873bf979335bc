"""Finding the fastest settings, and saving them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mlapi import cli
from mlapi.settings import ServeSettings
from mlapi.tuning import throughput, tune
from mlapi.tuning.throughput import Plan, Speed
from model.settings import ModelSettings
from runtime.errors import SetupError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a temporary folder without settings; the default model stays."""
    monkeypatch.setenv("MODEL", str(Path("var/models/efficientnet-lite0").absolute()))
    for key in ("INSTANCES", "THREADS", "BATCH_SIZE", "ENV_FILE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_of_plans_that_are_equally_fast_the_one_whose_images_wait_less_is_best() -> None:
    speeds = [Speed(Plan(2, 1, size), rate, 10.0 * size) for size, rate in [(1, 80), (2, 97.5), (4, 100), (8, 99)]]
    assert tune.best(speeds).plan.batch_size == 2


def test_the_table_shows_the_best_in_bold() -> None:
    lines = tune.table([Speed(Plan(2, 1, 1), 80, 25), Speed(Plan(1, 2, 4), 100.4, 40)]).splitlines()
    assert lines[2:] == ["| 2 | 1 | 1 | 80 | 25.0 |", "| **1** | **2** | **4** | **100** | **40.0** |"]


def test_what_was_found_is_what_serves_unless_the_environment_says_otherwise(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune.write(tune.as_settings(Plan(3, 2, 5)), elsewhere / ".env")
    assert (ServeSettings.from_env().instances, ModelSettings.from_env().threads) == (3, 2)
    assert ModelSettings.from_env().batch_size == 5
    monkeypatch.setenv("THREADS", "7")
    assert ModelSettings.from_env().threads == 7


def test_other_lines_of_the_file_stay(elsewhere: Path) -> None:
    file = elsewhere / ".env"
    file.write_text("# Ours\nHTTP_PORT=8080\nTHREADS=9\n")
    tune.write({"THREADS": "2", "INSTANCES": "1"}, file)
    assert file.read_text() == "# Ours\nHTTP_PORT=8080\nTHREADS=2\nINSTANCES=1\n"


def test_a_file_that_cannot_be_written_is_named(elsewhere: Path) -> None:
    with pytest.raises(SetupError, match="no-folder"):
        tune.write({"THREADS": "1"}, elsewhere / "no-folder" / ".env")


def test_photos_are_used_as_far_as_they_are_images(elsewhere: Path, dog: bytes) -> None:
    photos = elsewhere / "photos"
    photos.mkdir()
    (photos / "notes.txt").write_text("no image")
    with pytest.raises(SetupError, match="has no PNG, JPEG or GIF images"):
        tune.pictures(photos, ModelSettings.from_env())
    (photos / "dog.jpeg").write_bytes(dog)
    assert tune.pictures(photos, ModelSettings.from_env()) == [dog]


def test_made_up_pictures_are_as_large_as_photos_on_the_web() -> None:
    sizes = [len(data) for data in tune.pictures(None, ModelSettings.from_env())]
    assert 20_000 < min(sizes) < max(sizes) < 200_000
    assert len(sizes) == 40


def test_the_command_measures_prints_and_keeps_the_best(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "BATCH_SIZES", (1, 2))
    monkeypatch.setattr(tune, "ROUNDS", 1)
    monkeypatch.setattr("mlapi.service.cores.available_cores", lambda: 1)
    result = CliRunner().invoke(cli.cli, ["tune", "--seconds", "0.05"])
    assert result.exit_code == 0, result.output
    assert "| workers | threads of each | batch size | images/s | ms per batch |" in result.stdout
    kept = dict(line.split("=") for line in (elsewhere / ".env").read_text().splitlines())
    assert kept.keys() == {"INSTANCES", "THREADS", "BATCH_SIZE"}
    assert f".env has INSTANCES=1 THREADS=1 BATCH_SIZE={kept['BATCH_SIZE']}" in result.stdout
