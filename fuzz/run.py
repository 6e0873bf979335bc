"""Sends requests of every kind, and keeps those on which the service fails."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.strategies import SearchStrategy

from fuzz.corpus import hostile_requests
from fuzz.request import HostileRequest
from fuzz.service import Answer
from fuzz.strategies import strategies

Send = Callable[[HostileRequest], Answer]
Progress = Callable[[int], None]


@dataclass
class Findings:
    """The results: statuses and the slowest answer by kind, errors, worker deaths, and files of failed requests."""

    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    slowest_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    errors: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    failures: list[tuple[Path, Answer]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """The number of answered requests."""
        return sum(counts.total() for counts in self.statuses.values())

    def add(self, request: HostileRequest, answer: Answer) -> None:
        """Count an answer."""
        self.statuses[request.kind][answer.status] += 1
        self.slowest_s[request.kind] = max(self.slowest_s[request.kind], answer.took_s)
        self.errors[answer.error.partition(":")[0]] += 1
        self.deaths += answer.worker_died


class _Failed(Exception):
    def __init__(self, request: HostileRequest, answer: Answer) -> None:
        super().__init__(answer)
        self.request, self.answer = request, answer


class Fuzzer:
    """Sends requests, counts the outcomes, and keeps in a folder the requests on which the service fails."""

    def __init__(self, send: Send, folder: Path, progress: Progress = lambda _: None) -> None:
        self.findings = Findings()
        self._send = send
        self._folder = folder
        self._progress = progress

    def run(self, inputs: int, seed: int, max_upload_bytes: int) -> None:
        """Send the hand-made requests, then enough of every other kind for `inputs` in all."""
        self.send_all(hostile_requests(max_upload_bytes))
        kinds = strategies()
        for left, strategy in zip(range(len(kinds), 0, -1), kinds.values(), strict=True):
            self.explore(strategy, (inputs - self.findings.requests) // left, seed)

    def send_all(self, requests: Iterable[HostileRequest]) -> None:
        """Send each request."""
        for request in requests:
            try:
                self._try(request)
            except _Failed as err:
                self._keep(err)

    def explore(self, strategy: SearchStrategy[HostileRequest], count: int, seed: int) -> None:
        """Send at least `count` requests that Hypothesis generates, the same for the same seed.

        The search ends when one fails; the smallest failing request is kept.
        """
        enough = self.findings.requests + count
        try:
            while self.findings.requests < enough:  # when it has no more examples, it starts again
                self._exploration(strategy, enough - self.findings.requests, seed)()
                seed += 1
        except _Failed as err:
            self._keep(err)

    def _exploration(self, strategy: SearchStrategy[HostileRequest], count: int, seed: int) -> Callable[[], None]:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            derandomize=False,
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(strategy)
        def explore(request: HostileRequest) -> None:
            self._try(request)

        return explore

    def _try(self, request: HostileRequest) -> None:
        answer = self._send(request)
        self.findings.add(request, answer)
        self._progress(1)
        if answer.is_failure:
            raise _Failed(request, answer)

    def _keep(self, failed: _Failed) -> None:
        data = failed.request.encode()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / hashlib.sha256(data).hexdigest()[:16]
        path.write_bytes(data)
        self.findings.failures.append((path, failed.answer))
