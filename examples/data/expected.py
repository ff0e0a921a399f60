#!/usr/bin/env python3
"""Computes the figures that the demo must reach, from the data alone: nothing of Wattle runs here.

The rules are those in the documentation of examples/flight-delay and examples/flight-delay-v2.

    python3 examples/data/expected.py          writes flights-2013-01.expected.json
    python3 examples/data/expected.py --check  fails when that file says something else
"""

import collections
import csv
import gzip
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
DATA = FOLDER / "flights-2013-01.csv.gz"
EXPECTED = FOLDER / "flights-2013-01.expected.json"

KEY = ("time_hour", "carrier", "flight")
# One flight of each class, looked up by key in the demo.
SAMPLES = {"on-time": 2, "late": 1, "very-late": 1, "diverted": 1, "cancelled": 1}


def read_flights():
    """Key → row, a missing cell (NA or empty) as None."""
    flights = {}
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            cells = {column: None if cell in ("NA", "") else cell for column, cell in row.items()}
            key = ",".join(row[column] for column in KEY)
            if key in flights:
                raise SystemExit(f"{DATA.name}: the key {key} occurs twice")
            flights[key] = cells
    return flights


def by_departure(flight):
    """Version 1: over a quarter of an hour late at departure is late."""
    if flight["dep_time"] is None:
        return "cancelled", 0
    minutes = max(int(flight["dep_delay"] or 0), 0)
    return ("late" if minutes > 15 else "on-time"), minutes


def by_arrival(flight):
    """Version 2: lateness is that of the arrival, over an hour is very late."""
    if flight["dep_time"] is None:
        return "cancelled", 0
    if flight["arr_delay"] is None:
        return "diverted", 0
    minutes = int(flight["arr_delay"])
    if minutes > 60:
        return "very-late", minutes
    if minutes > 15:
        return "late", minutes
    return "on-time", max(minutes, 0)


def summarise(flights, rule):
    classes = collections.Counter()
    total = 0
    for flight in flights.values():
        name, minutes = rule(flight)
        classes[name] += 1
        total += minutes
    return {"classes": dict(sorted(classes.items())), "minutes": total}


def pick_samples(flights):
    """The first flights, in the order of keys, of each class of version 2."""
    wanted = dict(SAMPLES)
    samples = []
    for key in sorted(flights):
        name, _ = by_arrival(flights[key])
        if wanted.get(name, 0) == 0:
            continue
        wanted[name] -= 1
        answers = [{"delay": rule(flights[key])[0], "minutes": rule(flights[key])[1]} for rule in (by_departure, by_arrival)]
        samples.append({"key": key, "versions": answers})
    return samples


def compute():
    flights = read_flights()
    return {
        "rows": len(flights),
        "miles": sum(int(flight["distance"]) for flight in flights.values()),
        "without_tail_number": sum(flight["tailnum"] is None for flight in flights.values()),
        "versions": [summarise(flights, by_departure), summarise(flights, by_arrival)],
        "samples": pick_samples(flights),
    }


def main():
    text = json.dumps(compute(), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if EXPECTED.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{EXPECTED.name} differs from what {DATA.name} gives: run this script without --check")
        print(f"{EXPECTED.name} is what {DATA.name} gives")
    elif len(sys.argv) == 1:
        EXPECTED.write_text(text, encoding="utf-8")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
