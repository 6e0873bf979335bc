"""Turns off metrics in processes whose PYTHONPATH begins with this folder, since no setting can.

Python imports this module when it starts, whatever program it is to run.
"""

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase


def _itself(metric: object, *_: object, **__: object) -> object:
    return metric


def _nothing(*_: object, **__: object) -> None:
    pass


for kind, methods in {Counter: ["inc"], Gauge: ["inc", "dec", "set"], Histogram: ["observe"]}.items():
    for method in methods:
        setattr(kind, method, _nothing)
setattr(MetricWrapperBase, "labels", _itself)  # noqa: B010 - no type checker takes the assignment
