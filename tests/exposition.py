"""Reads Prometheus's metrics, and checks them by the rules of its own `promtool check metrics`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import requests
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

# https://prometheus.io/docs/practices/naming/: seconds and bytes, nothing that has to be converted.
NOT_BASE_UNITS = {"ms", "milliseconds", "microseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "percent"}
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
RESERVED_ENDINGS = ("_total", "_count", "_sum", "_bucket", "_created")
# The number of label combinations that Prometheus considers small, not counting bucket bounds.
MAX_SERIES = 100
# Ids, hashes and addresses are labels without a limit.
ENDLESS = re.compile(r"[0-9a-f]{16,}|\d+\.\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Exposition:
    """A text in Prometheus's format, parsed."""

    text: str

    @classmethod
    def of(cls, url: str, **headers: str) -> "Exposition":
        """Fetch one."""
        response = requests.get(url, headers=headers, timeout=30)
        response.raise_for_status()
        return cls(response.text)

    @property
    def families(self) -> list[Metric]:
        """The metrics."""
        return list(text_string_to_metric_families(self.text))

    @property
    def names(self) -> set[str]:
        """The names of all values."""
        return {sample.name for family in self.families for sample in family.samples}

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the values that have these labels."""
        samples = [sample for family in self.families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if sample.labels.items() >= labels.items())

    def problems(self) -> list[str]:
        """Return the violations of Prometheus's rules."""
        return [f"{family.name}: {problem}" for family in self.families for problem in self._problems(family)]

    def _problems(self, family: Metric) -> Iterator[str]:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not re.search(rf"^# HELP {name} \w", self.text, re.MULTILINE):
            yield "no help"
        if not re.search(rf"^# TYPE {name} {family.type}$", self.text, re.MULTILINE):
            yield "no type"
        if not re.fullmatch("(mlapi|process)(_[a-z]+)+", family.name):
            yield "not in lower case, or not one of ours"
        if family.name.endswith(RESERVED_ENDINGS) or TYPES & set(family.name.split("_")):
            yield "named after its type"
        if NOT_BASE_UNITS & set(family.name.split("_")):
            yield "not in a base unit"
        yield from _label_problems([sample.labels for sample in family.samples])


def _label_problems(labels: list[Mapping[str, str]]) -> Iterator[str]:
    named = {tuple(sorted((name, value) for name, value in each.items() if name != "le")) for each in labels}
    if len(named) > MAX_SERIES:
        yield f"{len(named)} combinations of labels"
    for name, value in {pair for pairs in named for pair in pairs}:
        if not re.fullmatch("[a-z]+(_[a-z]+)*", name):
            yield f"the label {name} is not in lower case"
        if ENDLESS.search(value):
            yield f"there is no end of values like {name}={value}"
