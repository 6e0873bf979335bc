"""The settings page matches the settings, and the settings and commands in the documentation exist."""

import io
import re
from pathlib import Path

import click
import pytest
from dotenv import dotenv_values
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from jobs.settings import SharedSettings
from mlapi import cli
from mlapi.settings import ServeSettings
from model.settings import ModelSettings
from testing import pages

ROOT = Path(__file__).parents[2]
SETTINGS = (SharedSettings, ServeSettings, ApiSettings, ModelSettings)


def table() -> str:
    """Return a row for each setting, sorted."""
    return "".join(sorted({_row(settings, name) for settings in SETTINGS for name in settings.model_fields}))


def _row(settings: type[BaseSettings], name: str) -> str:
    field = settings.model_fields[name]
    default = "cores" if field.default_factory else "none" if field.default is None else f"`{field.default}`"
    description = str(field.description).replace("](docs/", "](")  # as linked from the page
    return f"| `{name.upper()}` | {default} | {description} |\n"


def test_the_page_of_settings_has_every_setting_once_with_its_default() -> None:
    listed = re.findall(r"^\| `[A-Z_]+` .*\n", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert "".join(sorted(listed)) == table()


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_setting_that_is_given_a_value_exists(page: str) -> None:
    known = {name.upper() for settings in SETTINGS for name in settings.model_fields}
    known |= {"COMPOSE_FILE", "REDISCLI_AUTH"}  # Docker Compose's and redis-cli's own
    known |= {"OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}  # OpenTelemetry's
    known |= {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}  # Amazon's
    files = ("Makefile", "docker-compose.yml", "deploy/compose/hosts.yml", "deploy/compose/beside.yml")
    others = "".join((ROOT / name).read_text() for name in files)
    for name in set(re.findall(r"\b([A-Z][A-Z_]+)=", pages.code(page))) - known:
        assert re.search(rf"[({{]{name}\b", others), name


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_command_and_option_exists(page: str) -> None:
    for line in re.findall(r"(?<!from )\bmlapi ([^`#|>\n]+)", pages.code(page)):
        words = line.split()
        command: click.Command = cli.cli
        while words and isinstance(command, click.Group):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_the_settings_for_a_network_are_valid() -> None:
    [block] = [block for block in pages.blocks("SECURITY.md") if "RATE_LIMIT" in block.text]
    values = {name.lower(): value for name, value in dotenv_values(stream=io.StringIO(block.text)).items()}
    assert ApiSettings.model_validate(values).model_fields_set == set(values)
