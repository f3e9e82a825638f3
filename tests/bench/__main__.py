"""`python -m tests.bench [--prepare] [NAME…]`: measure, or only prepare; all benchmarks by default."""

from __future__ import annotations

import argparse
from functools import partial

from tests.bench import cold_start, concurrent, deploy, idle, invoke
from tests.bench.harness import Benchmark, run

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.NAME: benchmark for benchmark in (cold_start, invoke, deploy, concurrent, idle)
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--prepare", action="store_true", help="only bring about what the benchmark needs")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        others = [benchmark for other, benchmark in BENCHMARKS.items() if other != name]
        run(BENCHMARKS[name], others=others, only_prepare=arguments.prepare, say=partial(print, flush=True))


if __name__ == "__main__":
    main()
