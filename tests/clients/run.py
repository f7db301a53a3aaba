"""Runs the client matrix and prints its table; called by tests/clients/run."""
import argparse
import re
import sys
import time

import matrix


def main():
    parser = argparse.ArgumentParser(prog="tests/clients/run", description=(
        "Client libraries, unmodified, against the proxy. Prints what failed and a table."))
    parser.add_argument("--only", default="", help="libraries whose name matches this pattern")
    parser.add_argument("--mode", choices=list(matrix.MODES), help="this mode alone")
    parser.add_argument("--verbose", action="store_true", help="what each program printed")
    args = parser.parse_args()
    rows, begun = [], time.monotonic()
    wanted = [lib for lib in matrix.LIBRARIES + matrix.FRAMEWORKS if re.search(
        args.only, lib.name, re.I)]
    modes = [args.mode] if args.mode else list(matrix.MODES)
    servers = matrix.Servers(m for m in modes if any(m in lib.modes for lib in wanted))
    try:
        for library in wanted:
            cells = {}
            for mode in modes:
                if mode in library.modes:
                    start = time.monotonic()
                    cells[mode] = outcome = matrix.run_program(library, mode, servers)
                    print("%-20s %-9s %s (%.1f s)" % (library.name, mode, outcome.cell(),
                                                      time.monotonic() - start), flush=True)
                    if args.verbose:
                        print(outcome.output)
            rows.append((library, cells))
    finally:
        servers.stop()
    return report(rows, modes, time.monotonic() - begun)


def report(rows, modes, seconds):
    print()
    for mode in modes:
        print("%-9s %s" % (mode, matrix.MODES[mode][2]))
    print()
    version = {lib.name: next((c.version for c in cells.values() if c.version), "")
               for lib, cells in rows}
    print("| Library | Version | %s |\n| --- | --- |%s" % (" | ".join(modes), " --- |" * len(modes)))
    for library, cells in rows:
        print("| %s | %s | %s |" % (library.name, version[library.name], " | ".join(
            cells[m].cell() if m in cells else "-" for m in modes)))
    failures, skips, later, none, passed = [], {}, {}, {}, 0
    for library, cells in rows:
        for mode, outcome in cells.items():
            passed += len(outcome.ok)
            failures += [(library.name, mode, name, why) for name, why in outcome.failed]
            for name, why in outcome.none:
                none.setdefault((library.name, name, why), []).append(mode)
            for name in outcome.later:
                later.setdefault(name, []).append("%s %s" % (library.name, mode))
            if outcome.skipped:
                skips.setdefault((library.name, outcome.skipped), []).append(mode)
    for title, lines in (
            ("Failed:", ["%s, %s, %s: %s" % f for f in failures]),
            ("Not supported by the proxy yet:", ["%s (%d programs)" % (name, len(where))
                                                 for name, where in later.items()]),
            ("The library has no such thing:", ["%s, %s: %s (%s)" % (key[0], key[1], key[2],
                                                                     " ".join(where))
                                                for key, where in none.items()]),
            ("Skipped:", ["%s (%s): %s" % (key[0], " ".join(where), key[1])
                          for key, where in skips.items()])):
        if lines:
            print("\n%s" % title)
            for line in lines:
                print("    " + line)
    left_out = sum(map(len, skips.values())) + sum(map(len, later.values()))
    print("\nin %.0f s\n%d passed, %d failed%s" % (
        seconds, passed, len(failures), ", %d skipped" % left_out if left_out else ""))
    return 0 if passed and not failures else 1


if __name__ == "__main__":
    sys.exit(main())
