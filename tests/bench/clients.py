"""Starts clients as processes of their own, and waits for what they saw."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.caller import Plan, Report
from tests.bench.processes import ROOT, module


def report_of(plan: Plan) -> Report:
    """Carries out a plan in a client of our own. Raises RuntimeError when a call was not answered well."""
    with client(plan) as started:
        report = finish(started)
    if set(report["codes"]) != {"OK"}:
        raise RuntimeError(f"calls of {plan['method']} ended in {report['codes']}")
    return report


@contextmanager
def client(plan: Plan) -> Iterator["subprocess.Popen[str]"]:
    """Starts a client of our own; `finish` waits for it."""
    with process(module("tests.bench.caller"), stdin=subprocess.PIPE) as started:
        assert started.stdin
        json.dump(plan, started.stdin)
        started.stdin.close()
        started.stdin = None
        yield started


def finish(started: "subprocess.Popen[str]") -> Report:
    """Waits until a client has carried out its plan. Raises RuntimeError when it could not."""
    output, _ = started.communicate()
    if started.returncode:
        raise RuntimeError("a client failed; it says why above")
    report: Report = json.loads(output)
    return report


@contextmanager
def process(command: list[str], stdin: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Starts a client of any kind, and ends it if it still runs when it isn't needed any more."""
    with subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()
