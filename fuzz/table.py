"""Renders findings as a Markdown table."""

from fuzz.run import Findings


def render(findings: Findings) -> str:
    """Return the requests and answers by kind, then the errors and failures."""
    statuses = sorted({status for counts in findings.statuses.values() for status in counts})
    header = ["kind", "inputs", *map(str, statuses), "slowest ms"]
    rows = [
        [
            kind,
            str(counts.total()),
            *(str(counts[status]) for status in statuses),
            f"{1000 * findings.slowest_s[kind]:.0f}",
        ]
        for kind, counts in findings.statuses.items()
    ]
    totals = [str(sum(counts[status] for counts in findings.statuses.values())) for status in statuses]
    rows.append(["all", str(findings.requests), *totals, f"{1000 * max(findings.slowest_s.values(), default=0):.0f}"])
    rules = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rules, *rows])


def summary(findings: Findings) -> str:
    """Return the errors, and the requests on which the service failed."""
    errors = ", ".join(f"{error} {count}" for error, count in findings.errors.most_common() if error)
    failures = [
        f"FAILED: {answer.status} {answer.error}{', and the worker died' if answer.worker_died else ''}\n"
        f"  make fuzz REPLAY={path}"
        for path, answer in findings.failures
    ]
    verdict = f"Inputs: {findings.requests}. Failures: {len(findings.failures)}. Dead workers: {findings.deaths}."
    return "\n\n".join([f"Errors: {errors}.", *failures, verdict])
