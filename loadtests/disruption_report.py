"""What :mod:`loadtests.disruption` measured: does it hold, and how it is shown."""

from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

BACK_S = 3.0
"""Within which a worker is to be back, or another one to answer."""


def judge(report: dict[str, Any]) -> list[str]:
    """What does not hold; empty where all does."""
    stopped, one = report["stop"], report["variants"][0]
    wrong = []
    if stopped["outcomes"] != {"right": stopped["requests"]} or stopped["under_way"] < stopped["requests"]:
        wrong.append(f"{stopped['under_way']} requests were under way at the stop, and became {stopped['outcomes']}")
    if stopped["exit_code"] != 0 or stopped["later"]["status"] != 503 or not stopped["later"]["retry_after"]:
        wrong.append(
            f"the server ended with {stopped['exit_code']}, and answered later requests with {stopped['later']}"
        )
    if one["served_s"]["worst"] > BACK_S:
        wrong.append(f"it took up to {one['served_s']['worst']} s until a request was answered again")
    if lost := sum(each["lost_later"] for row in report["variants"] for each in row["kills"]):
        wrong.append(f"{lost} requests were lost that no killed worker held")
    return wrong


def table(report: dict[str, Any]) -> Table:
    """A line for each way of running workers."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("workers")
    for name in ("replies/s", "MB", "lost of under way", "refused", "new worker", "answer", "at worst", "killed again"):
        shown.add_column(name, justify="right")
    for row in report["variants"]:
        kills = row["kills"]
        shown.add_row(
            str(row["workers"]),
            f"{row['replies_per_s']:.0f}",
            str(row["memory_mb"]),
            f"{sum(each['lost'] for each in kills)} of {sum(each['under_way'] for each in kills)}",
            str(sum(each["refused"] for each in kills)),
            f"{median(each['spawned_s'] for each in kills):.1f} s",
            f"{row['served_s']['median']:.1f} s",
            f"{row['served_s']['worst']:.1f} s",
            f"{row['killed_again']['served_s']:.1f} s",
        )
    return shown


def stop_line(stopped: dict[str, Any]) -> str:
    """What became of the requests under way when the server was stopped, in a sentence."""
    right = stopped["outcomes"].get("right", 0)
    return (
        f"Stopped with {stopped['under_way']} requests of {stopped['sentences_each']} sentences under way: {right} "
        f"right answers, the last after {stopped['answered_s']:.1f} s; a later request got "
        f"{stopped['later']['status']} with Retry-After {stopped['later']['retry_after']}; exit code "
        f"{stopped['exit_code']} after {stopped['stopped_s']:.1f} s."
    )
