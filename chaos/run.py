"""Injects one fault after another into a service under load, and collects what the clients noticed."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from chaos.callers import RIGHT, WRONG, Callers, Request
from chaos.faults import Fault, Strike
from testing.pictures import Questions

# Requests flow for this long before a fault strikes, and after the service has recovered.
_CALM_S = 2.0
# Without a fault, an answer takes a tenth of this.
_SLOW_S = 1.0
# Refusals for requests that cannot be served now. A passed deadline is not among them: the service is away for less
# than that, so the job was lost.
_REFUSALS = ("429 ", "503 ")


class Target(Protocol):
    """A running service under test."""

    port: int

    def wait_until_well(self) -> None:
        """Return when it answers and every worker is alive; raise an error if that takes too long."""


T = TypeVar("T", bound=Target)


@dataclass(slots=True)
class Result:
    """The outcomes of the requests during a fault, and the seconds to recovery after each strike."""

    fault: str
    requests: Sequence[Request] = ()
    recoveries_s: list[float] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return the number of requests with this outcome."""
        return sum(request.outcome == outcome for request in self.requests)

    @property
    def unheard(self) -> int:
        """The number of times that requests were repeated because no server listened."""
        return sum(request.unheard > 0 for request in self.requests)

    @property
    def broke(self) -> int:
        """The number of times that requests were repeated because the connection broke before the answer."""
        return sum(request.broke > 0 for request in self.requests)

    @property
    def refusals(self) -> Counter[str]:
        """The number of refused requests by status and code."""
        return Counter(request.outcome for request in self.requests if request.outcome.startswith(_REFUSALS))

    @property
    def lost(self) -> int:
        """The number of requests neither answered nor rightly refused."""
        return len(self.requests) - self.count(RIGHT) - self.count(WRONG) - self.refusals.total()

    @property
    def losses(self) -> Counter[str]:
        """The outcomes of the lost requests."""
        known = (RIGHT, WRONG)
        told = Counter(request.outcome for request in self.requests if request.outcome not in known)
        return told - self.refusals

    @property
    def passed(self) -> bool:
        """Whether no request was lost or answered wrongly."""
        return self.count(RIGHT) > 0 and self.lost == self.count(WRONG) == 0


def measure(fault: Fault[T], target: T, times: int, questions: Questions, callers: int) -> Result:
    """Inject a fault `times` times. Raises `CannotRun` if it cannot, or if the service does not recover."""
    with fault.prepare(target) as strike, Callers(target.port, questions, callers) as calling:
        strikes = [_strike_once(strike, fault, target) for _ in range(times)]
    result = Result(fault.name, calling.requests)
    ends = [started for started, _ in strikes[1:]] + [float("inf")]
    for (started, over), end in zip(strikes, ends, strict=True):
        origin = over if fault.blocks else started
        during = [request for request in result.requests if started <= request.settled_at < end]
        result.recoveries_s.append(recovery_s(during, origin))
    return result


def _strike_once(strike: Strike, fault: Fault[T], target: T) -> tuple[float, float]:
    """Return when the fault struck and when it was over, once the service has recovered."""
    time.sleep(_CALM_S)
    started = time.monotonic()
    with strike():
        time.sleep(fault.lasts_s)
    over = time.monotonic()
    target.wait_until_well()
    time.sleep(_CALM_S)
    return started, over


def recovery_s(requests: Sequence[Request], origin: float) -> float:
    """Return the seconds from `origin` to the end of the last request that noticed the fault; 0 if none did."""
    noticed = [request.settled_at - origin for request in requests if _noticed(request)]
    return max([0.0, *noticed])


def _noticed(request: Request) -> bool:
    slow = request.settled_at - request.sent_at > _SLOW_S
    return slow or request.outcome != RIGHT or request.unheard + request.broke > 0
