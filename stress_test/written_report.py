"""Writes REPORT.md and its plots from the sweep's results."""

import datetime as dt
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from stress_test.cells import Result, Times

# The measurements of this service's predecessor on its own hardware: ResNet-50 in Keras, polled lists in Redis.
_PREDECESSOR = "250 to 400 ms a prediction; a second instance gained nothing, and neither did batches"
_LIBRARIES = ("flask", "granian", "redis", "openvino", "pillow", "numpy", "locust")


def write(report: Path, results: Sequence[Result], seconds: float) -> None:
    """Write the report, and its plots into the same folder."""
    plots = [
        _plot(report.with_name("throughput.png"), results, "predictions/s", lambda result: result.predict.per_second),
        _plot(report.with_name("p99.png"), results, "p99, ms", lambda result: result.predict.p99_ms),
    ]
    sections = [
        "# How fast it is",
        _setting(seconds),
        _findings(results),
        "\n".join(f"![{plot.stem} by users]({plot.name})" for plot in plots),
        "## Predictions\n\n" + _table(results, lambda result: result.predict),
        "## Feedback\n\nSent by the same users, in between.\n\n" + _table(results, lambda result: result.feedback),
    ]
    report.write_text("\n\n".join(sections) + "\n")


def _setting(seconds: float) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    rows = {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "libraries": libraries,
        "load": f"users without pauses, {seconds:g} s each, on the same machine; every picture is another one",
        "model": "the default, EfficientNet-Lite0",
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _findings(results: Sequence[Result]) -> str:
    """Describe the gains of a second instance and of batches, with the figures."""
    users = max(result.cell.users for result in results)
    instances = sorted({result.cell.instances for result in results})
    first, last = instances[0], instances[-1]

    def rate(count: int, *, batched: bool) -> float:
        return next(
            result.predict.per_second
            for result in results
            if (result.cell.users, result.cell.instances, result.cell.batched) == (users, count, batched)
        )

    alone = next(result for result in results if result.cell.users == min(r.cell.users for r in results))
    lines = [
        f"- One user waits {alone.predict.p50_ms:.0f} ms (median). The predecessor's users reported {_PREDECESSOR}.",
        f"- Batches change the rate of {users} users by {_gain(rate(first, batched=True), rate(first, batched=False))}"
        f" with {first} worker{_plural(first)}. On a processor a batch saves only what is done once per run: a larger"
        " one does not make the arithmetic less. It pays with many small jobs, and more on a GPU.",
    ]
    if last > first:
        lines.append(
            f"- {last} workers change it by {_gain(rate(last, batched=True), rate(first, batched=True))} against"
            f" {first}: each worker computes on a core of its own, as long as there are cores; the API and this test's"
            " users take their part of the same ones."
        )
    failures = sum(result.failures for result in results)
    lines.append(f"- {failures} of all requests failed." if failures else "- No request failed.")
    return "\n".join(lines)


def _gain(now: float, before: float) -> str:
    return (
        f"{100 * (now / before - 1):+.0f} % ({before:.0f} to {now:.0f} predictions/s)"
        if before
        else "an unknown amount"
    )


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _table(results: Sequence[Result], times: Callable[[Result], Times]) -> str:
    header = "| instances | jobs | users | answers | per second | p50 ms | p95 ms | p99 ms |\n|---:|---|" + "---:|" * 6
    return "\n".join([header, *(_row(result, times(result)) for result in results)])


def _row(result: Result, times: Times) -> str:
    cell = result.cell
    measured = (times.per_second, times.p50_ms, times.p95_ms, times.p99_ms)
    cells = [
        str(cell.instances),
        "batched" if cell.batched else "one by one",
        str(cell.users),
        str(times.answers),
        *(f"{value:.1f}" for value in measured),
    ]
    return f"| {' | '.join(cells)} |"


def _plot(path: Path, results: Sequence[Result], title: str, value: Callable[[Result], float]) -> Path:
    """Draw a line for each number of instances, unbatched and batched, over the users."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore] # only this command needs it

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for instances, batched in sorted({(result.cell.instances, result.cell.batched) for result in results}):
        line = [r for r in results if (r.cell.instances, r.cell.batched) == (instances, batched)]
        label = f"{instances} instance{_plural(instances)}, {'batched' if batched else 'one by one'}"
        style = "-o" if batched else "--o"
        axes.plot([r.cell.users for r in line], [value(r) for r in line], style, label=label, markersize=4)
    axes.set_xscale("log", base=2)
    ticks = sorted({result.cell.users for result in results})
    axes.set_xticks(ticks, [str(users) for users in ticks])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="users", ylabel=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    return path
