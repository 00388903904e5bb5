"""Fill the tables of docs/tracking.md from `benchmarks/results/`: `python docs/make_tracking_tables.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pages import ROOT, Tables, read, rewrite, table

from topos_rt.faces.tracker import EXPRESSIONS

PAGE = ROOT / "docs" / "tracking.md"
RESULT = "tracker_cpu"
_FOLLOWS, _PARTLY = 0.8, 0.5  # correlations
_ANSWERS = 0.1  # how much higher a score has to be while its expression is acted
_KINDS = {
    "followed": "a face in every frame",
    "losing": "the face leaves for half a second every two seconds",
    "no face": "no face at all",
}


def _speed() -> str:
    speed = read(RESULT)["speed"]
    rows = []
    for kind, label in _KINDS.items():
        cpu, wall = (speed[kind][clock] for clock in ("cpu_ms", "wall_ms"))
        cells = [f"{times['p50']:.1f} / {times['p99']:.1f}" for times in (cpu, wall)]
        rows.append([label, *cells, f"{1000 / cpu['mean']:.0f}"])
    return table(
        ["", "processor time, ms (p50 / p99)", "by the clock, ms", "frames in a second of one core"], rows
    )


def _machine() -> str:
    result = read(RESULT)
    machine, speed = result["machine"], result["speed"]
    side = speed["side"]
    return (
        f"{machine['cpu']}, one thread on one core, {speed['frames']} frames of {side} x {side} pixels. The"
        f" load average was {speed['load_average']:.1f} on {machine['cores']} cores: other work had its share"
        " of the clock's times."
    )


def _smoothing() -> str:
    result = read(RESULT)
    rest, delay = result["rest"], result["delay"]
    rows = [
        ["landmarks, % of the outer-eye distance", "landmarks_percent", "landmarks_frames"],
        ["yaw, pitch, roll, degrees", "angles_degrees", "yaw_frames"],
        ["scores", "scores", "scores_frames"],
    ]
    return table(
        ["", "jitter at rest, raw", "smoothed", "delay, frames at 30 a second"],
        [
            [label, f"{rest['raw'][jitter]:.3f}", f"{rest['smooth'][jitter]:.3f}", f"{delay[late]:.2f}"]
            for label, jitter, late in rows
        ],
    )


def _blink() -> str:
    delay = read(RESULT)["delay"]
    return (
        f"Smoothing keeps {delay['blink_kept']:.0%} of a blink of a quarter of a second, and shows it"
        f" {delay['blink_frames']:.2f} frames late."
    )


def _pose() -> str:
    pose = read(RESULT)["pose"]
    rows = [
        [angle, f"{raw['constant']:.1f}", *(f"{one['mean']:.1f} / {one['p95']:.1f}" for one in (raw, smooth))]
        for angle, raw, smooth in ((a, pose["raw"][a], pose["smooth"][a]) for a in pose["raw"])
    ]
    return table(["degrees", "constant part", "the rest, raw (mean / 95 %)", "smoothed"], rows)


def _scores() -> str:
    result = read(RESULT)
    rows = []
    for label, names in _groups().items():
        both, plain = _mean(result["together"], names), _mean(result["plain"], names)
        single = _mean(result["alone"], [name for name in names if name in result["alone"]])
        rows.append(
            (
                -both["correlation_raw"],
                [
                    f"`{label}`",
                    _VERDICTS[_verdict(result["together"], names)],
                    f"{both['correlation_raw']:.2f} / {both['correlation_smooth']:.2f}",
                    f"{single['correlation_raw']:.2f}" if single else "",
                    f"{plain['correlation_raw']:.2f}",
                    f"{both['full']:.2f}",
                    f"{both['rest']:.2f}",
                    f"{both['others_p99']:.2f}",
                ],
            )
        )
    head = ["score", "", "r, raw / smoothed", "one side", "plain head", "at 1", "at 0", "at 0, 99 %"]
    return table(head, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


_VERDICTS = {
    "follow": "follows",
    "follow partly": "partly",
    "answer to others, too": "answers to others, too",
    "mean nothing": "**means nothing**",
}


def _verdict(facts: Mapping[str, Any], names: list[str]) -> str:
    """Return a key of _VERDICTS for the worse side of an expression."""
    least = min(facts[name]["correlation_raw"] for name in names)
    rise = min(facts[name]["full"] - facts[name]["rest"] for name in names)
    unsure = "answer to others, too" if rise >= _ANSWERS else "mean nothing"
    return "follow" if least >= _FOLLOWS else "follow partly" if least >= _PARTLY else unsure


def _count() -> str:
    groups, result = _groups(), read(RESULT)["together"]
    found = [_verdict(result, names) for names in groups.values()]
    told = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in _VERDICTS)
    return f"Of {len(groups)} expressions, {told}."


def _groups() -> dict[str, list[str]]:
    """Return the scores by name, the two sides of an expression together."""
    groups: dict[str, list[str]] = {}
    for name in EXPRESSIONS:
        stem = name.removesuffix("Left").removesuffix("Right")
        groups.setdefault(name if stem in ("jaw", "mouth") else stem, []).append(name)
    return groups


def _mean(facts: Mapping[str, Any], names: list[str]) -> dict[str, float]:
    chosen = [facts[name] for name in names]
    return {key: float(np.mean([one[key] for one in chosen])) for key in chosen[0]} if chosen else {}


TABLES: Tables = {
    "speed": _speed,
    "machine": _machine,
    "smoothing": _smoothing,
    "blink": _blink,
    "pose": _pose,
    "count": _count,
    "scores": _scores,
}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
