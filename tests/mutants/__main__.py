"""Break the service in one place after the other, and run the tests that should notice: make mutants.

Exit with 1 if a mutant survives, or if the text that it replaces is gone. Arguments select mutants by a part of their
file's path.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.mutations import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "data")
JOBS = 2
SECONDS = 900


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or any(part in mutant.file for part in sys.argv[1:])]
    if not chosen:
        print(f"No mutant's file has {' or '.join(sys.argv[1:])} in its path.")
        return 1
    selections = sorted({test for mutant in chosen for test in mutant.tests})
    if run([], selections) != "survived":
        print("The tests fail on the code as it is.")
        return 1
    with ThreadPoolExecutor(JOBS) as pool:
        outcomes = list(pool.map(try_out, chosen))
    survivors = len(chosen) - outcomes.count("killed")
    print(f"{len(chosen)} mutants, {survivors} not killed")
    return 1 if survivors else 0


def try_out(mutant: Mutant) -> str:
    """Run the tests of a mutant, and print and return what became of it."""
    outcome = run([mutant], mutant.tests)
    old, new = (" ".join(text.split()) for text in (mutant.old, mutant.new))
    print(f"{outcome:9} {mutant.file}: {old} -> {new or 'nothing'}", flush=True)
    return outcome


def run(mutants: list[Mutant], tests: list[str]) -> str:
    """Run tests on a copy of the tree with these mutants: killed, survived, broken, or not found."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        for mutant in mutants:
            file = copy / mutant.file
            text = file.read_text()
            if text.count(mutant.old) != 1:
                return "not found"
            file.write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "--quiet", "--exitfirst", "--timeout=60", "-p", "no:cacheprovider"]
        # The copy comes before the installed package.
        paths = os.pathsep.join([str(copy), str(copy / "generated")])
        done = subprocess.run(
            [*command, *tests],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode not in {0, 1}:
            print(done.stdout[-2000:], done.stderr[-2000:])
        return {0: "survived", 1: "killed"}.get(done.returncode, "broken")


if __name__ == "__main__":
    sys.exit(main())
