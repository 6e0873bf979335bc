"""The README's table of settings is the settings themselves."""

from pathlib import Path

from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from jobs.settings import SharedSettings
from mlapi.settings import ServeSettings
from model.settings import ModelSettings

README = Path(__file__).parents[2] / "README.md"
HEADER = "| variable | default | what it is |\n|---|---|---|\n"


def table() -> str:
    """Return the table that belongs into the README."""
    rows: dict[str, str] = {}
    for settings in (SharedSettings, ServeSettings, ApiSettings, ModelSettings):
        rows |= {row: row for name in settings.model_fields for row in [_row(settings, name)]}
    return HEADER + "".join(rows)


def _row(settings: type[BaseSettings], name: str) -> str:
    field = settings.model_fields[name]
    default = "cores" if field.default_factory else "none" if field.default is None else f"`{field.default}`"
    return f"| `{name.upper()}` | {default} | {field.description} |\n"


def test_the_readme_lists_every_setting_with_its_default() -> None:
    text = README.read_text()
    listed = text[
        text.index("<!-- settings -->\n") + len("<!-- settings -->\n") : text.index("<!-- end of settings -->")
    ]
    assert listed == table(), f"the table should be:\n{table()}"
