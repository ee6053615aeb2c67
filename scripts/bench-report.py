"""Judges what scripts/bench measured.

    bench-report.py RUNS FACTS [JSON]

RUNS has a line of key=value pairs for each run, FACTS a line "name value" for
each fact about the machine and the archive. Prints the table; JSON is "-" for
JSON in its place, or the file to write it to as well. Ends with status 1 if a
bound is missed, 2 if the two sides did not do the same and cannot be compared.
"""

import json
import sys
from dataclasses import dataclass
from statistics import median

SIDES = ("distrofs", "unpacked")


@dataclass(frozen=True)
class Figure:
    """A line of the table: one value of one load. A bound is on the ratio to
    the unpacked side (`times`) or on our own value (`at_most`, in `unit`)."""

    name: str
    load: str
    key: str
    unit: str
    times: float | None = None
    at_most: float | None = None


FIGURES = (
    Figure("archive to answering mount, cold", "ready", "seconds", "s", times=0.35),
    Figure("mount of an indexed archive, cold", "mount_cold", "seconds", "ms", at_most=50),
    Figure("mount of an indexed archive, warm", "mount_warm", "seconds", "ms", at_most=50),
    Figure("walk, cold", "walk_cold", "walk_s", "s", times=1.0),
    Figure("walk, warm", "walk_warm", "walk_s", "s", times=1.15),
    Figure("read all, 1 reader, cold", "read1_cold", "cat_s", "s", times=1.3),
    Figure("read all, 4 readers, cold", "read4_cold", "cat_s", "s", times=1.3),
    Figure("read all, 1 reader, warm", "read_warm", "cat_s", "s", times=1.3),
    Figure("random 4 KiB, cold, median", "random_cold", "p50_us", "us", times=6),
    Figure("random 4 KiB, cold, p99", "random_cold", "p99_us", "us", times=12),
    Figure("start of Python with numpy, cold", "numpy_cold", "seconds", "s", times=1.4),
    Figure("peak memory of the daemon", "memory", "peak_mib", "MiB"),
)

ABOUT = """
{archive}, {archive_bytes} bytes; median of {rounds} rounds in {took_seconds} s, seed {seed}.
{cores} cores ({processor}), {memory_mib} MiB, {filesystem}, Linux {kernel}; {date}, commit {commit}.
Spread: from the least to the most of one side, in per cent of its median."""

# What has to be the same in every run of a load, on both sides.
SAME_WORK = ("entries", "dirs", "symlinks", "files", "bytes", "reads")


def main():
    runs_path, facts_path, json_to = (sys.argv[1:] + [None])[:3]
    runs = [parse_run(line) for line in open(runs_path)]
    facts = dict(parse_fact(line) for line in open(facts_path))
    check_same_work(runs)
    rows = [row for row in (judge(figure, runs) for figure in FIGURES) if row]
    rows.append(index_size(facts))
    document = json.dumps({"facts": facts, "figures": rows, "runs": runs}, indent=1)
    if json_to == "-":
        print(document)
    else:
        print_table(rows, facts)
        if json_to:
            with open(json_to, "w") as file:
                print(document, file=file)
    sys.exit(any(row.get("met") is False for row in rows))


def number(text):
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def parse_run(line):
    return {key: number(value) for key, value in (pair.split("=") for pair in line.split())}


def parse_fact(line):
    name, _, value = line.strip().partition(" ")
    # A commit may look like a number.
    return name, value if name == "commit" else number(value)


def check_same_work(runs):
    seen = {}
    for run in runs:
        for key in SAME_WORK:
            if key in run:
                seen.setdefault((run["load"], key), {}).setdefault(run[key], run["side"])
    for (load, key), values in seen.items():
        if len(values) > 1:
            found = ", ".join(f"{value} {key} ({side})" for value, side in values.items())
            print(f"bench: the runs of {load} cannot be compared: {found}", file=sys.stderr)
            sys.exit(2)


def judge(figure, runs):
    """The figure with both sides and its verdict; None if it was not measured."""
    row = {"name": figure.name, "load": figure.load, "key": figure.key, "unit": figure.unit}
    for side in SIDES:
        values = per_round(figure, side, runs)
        if values:
            row[side] = {
                "median": median(values),
                "min": min(values),
                "max": max(values),
                "rounds": values,
            }
    if "distrofs" not in row:
        return None
    ours = row["distrofs"]["median"]
    if "unpacked" in row:
        row["ratio"] = ours / row["unpacked"]["median"]
    if figure.times is not None and "ratio" in row:
        row |= {"ratio_max": figure.times, "met": row["ratio"] <= figure.times}
    if figure.at_most is not None:
        row |= {"value_max": figure.at_most, "met": ours <= figure.at_most}
    return row


def per_round(figure, side, runs):
    """One value for each round: the faster of two warm passes; of memory, the most."""
    best = max if figure.load == "memory" else min
    scale = 1000 if figure.unit == "ms" else 1
    rounds = {}
    for run in runs:
        if run["load"] == figure.load and run["side"] == side:
            rounds.setdefault(run["round"], []).append(run[figure.key] * scale)
    return [best(values) for _, values in sorted(rounds.items())]


def index_size(facts):
    percent = 100 * facts["index_bytes"] / facts["archive_bytes"]
    value = {"median": percent, "min": percent, "max": percent, "rounds": [percent]}
    return {"name": "size of the index", "unit": "% of the archive", "distrofs": value}


def print_table(rows, facts):
    """In Markdown, aligned for reading as it is."""
    lines = [("", "distrofs", "unpacked", "ratio", "bound", "", "spread")]
    lines += [table_line(row) for row in rows]
    columns = list(zip(*lines))
    widths = [max(3, *map(len, column)) for column in columns]
    lines.insert(1, ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]])
    print()
    for first, *others in lines:
        cells = [first.ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(others, widths[1:])]
        print("| " + " | ".join(cells) + " |")
    print(ABOUT.format(**facts))
    if "left_out" in facts:
        print(f"Left out: {facts['left_out']}.")


def table_line(row):
    digits = 3 if row["unit"] == "s" else 1
    value = lambda side: f"{row[side]['median']:.{digits}f} {row['unit']}" if side in row else ""
    bound = ""
    if "ratio_max" in row:
        bound = f"<= {row['ratio_max']}"
    elif "value_max" in row:
        bound = f"<= {row['value_max']} {row['unit']}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.get("met")]
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
    return (row["name"], value("distrofs"), value("unpacked"), ratio, bound, verdict, spread(row))


def spread(row):
    sides = [row[side] for side in SIDES if side in row and len(row[side]["rounds"]) > 1]
    parts = [(side["max"] - side["min"]) / side["median"] for side in sides if side["median"]]
    return f"{100 * max(parts):.0f} %" if parts else ""


main()
