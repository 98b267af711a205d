"""Starts clients as separate processes, and waits for their results."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.caller import Plan, Report
from tests.bench.processes import ROOT, module


def report_of(plan: Plan) -> Report:
    """Carries out a plan in a Python client. Raises RuntimeError if a call failed."""
    with client(plan) as started:
        report = finish(started)
    if set(report["codes"]) != {"OK"}:
        raise RuntimeError(f"calls of {plan['method']} ended in {report['codes']}")
    return report


@contextmanager
def client(plan: Plan) -> Iterator["subprocess.Popen[str]"]:
    """Start a Python client; `finish` waits for it."""
    with process(module("tests.bench.caller"), stdin=subprocess.PIPE) as started:
        assert started.stdin
        json.dump(plan, started.stdin)
        started.stdin.close()
        started.stdin = None
        yield started


def finish(started: "subprocess.Popen[str]") -> Report:
    """Wait until a client has carried out its plan. Raise RuntimeError if it failed."""
    output, _ = started.communicate()
    if started.returncode:
        raise RuntimeError("a client failed; it says why above")
    report: Report = json.loads(output)
    return report


@contextmanager
def process(command: list[str], stdin: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Start a client of any kind, and kill it on exit if it is still running."""
    with subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()
