"""Run benchmarks: ``python -m tests.benchmark [AREA]``; without an area, all of them."""

import sys
from importlib import import_module
from pathlib import Path

from tests.benchmark.table import append, table_of

AREAS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "table")
OUTPUT = Path("build") / "bench"


def main(arguments: list[str]) -> int:
    """Run the areas named, print each one's table and keep its lines."""
    chosen = arguments or AREAS
    unknown = sorted(set(chosen) - set(AREAS))
    if unknown:
        print(f"No benchmark is called {', '.join(unknown)}; there are: {', '.join(AREAS)}.", file=sys.stderr)
        return 2
    for area in chosen:
        rows = import_module(f"tests.benchmark.{area}").run()
        print(table_of(rows))
        append(rows, OUTPUT / f"{area}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
