"""An outcome as JUnit XML, which continuous integration reads."""

from xml.etree import ElementTree as ET

from incref.conformance.result import Outcome, Status

__all__ = ["as_junit"]


def as_junit(outcome: Outcome) -> str:
    """Make one test suite, with a test case for each case.

    What is not supported, or known to fail, is skipped with its reason; a run of nothing has a failing test of its own.
    """
    counts = outcome.counts
    suite = ET.Element(
        "testsuite",
        name=f"incref conformance {outcome.suite} level {outcome.level}: {outcome.implementation}",
        tests=str(max(len(outcome.results), 1)),
        failures=str(counts[Status.FAIL] + counts[Status.XPASS] + (not outcome.has_run)),
        errors=str(counts[Status.ERROR]),
        skipped=str(counts[Status.NOT_SUPPORTED] + counts[Status.NOT_ANSWERED] + counts[Status.XFAIL]),
        time=f"{outcome.seconds:.3f}",
    )
    for result in outcome.results:
        case = ET.SubElement(suite, "testcase", classname=result.op, name=result.key, time=f"{result.seconds:.6f}")
        if result.status in (Status.FAIL, Status.XPASS):
            ET.SubElement(case, "failure", message=result.reason, type=result.status.value).text = result.hint
        elif result.status is Status.ERROR:
            ET.SubElement(case, "error", message=result.reason)
        elif result.status is not Status.PASS:
            ET.SubElement(case, "skipped", message=f"{result.status.value}: {result.reason}")
    if not outcome.has_run:
        case = ET.SubElement(suite, "testcase", classname="run", name="something was run")
        ET.SubElement(case, "failure", message=outcome.verdict)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
