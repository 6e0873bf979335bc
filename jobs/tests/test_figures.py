"""Workers' reports, and the figures computed from them."""

from jobs.queue.figures import QueueFigures, WorkerReport


def test_a_report_comes_back_as_it_was() -> None:
    report = WorkerReport("m1", 12.5, 100, 40, 7, 1, {1: 3, 8: 2}, 0.5, 0.25)
    assert WorkerReport.decode(report.encode()) == report


def test_a_report_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    report = WorkerReport("m1", images=3)
    assert WorkerReport.decode(report.encode().replace(b"{", b'{"mood": "good", ', 1)) == report


def test_without_a_known_limit_there_is_no_efficiency() -> None:
    assert QueueFigures().efficiency == 0
