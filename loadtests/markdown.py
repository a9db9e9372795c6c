"""What was measured, in Markdown: a table for each report, with the machine, the versions and the commit."""

import json
import re
from statistics import median
from typing import Any

from loadtests import arrivals, disruption_report, overload, steady
from loadtests.engine_report import CTRANSLATE2, Case, between, label, tables, times
from loadtests.peers.attentive import Attentive
from loadtests.tables import grid, shown, where

EXAMPLE = {"text": "I am reading a book.", "target": "fr", "attention": "alignment"}

SHAPE_COLUMNS = {
    "sorted": "offline_sorted",
    "with attention": "offline_sorted attention",
    "beam 4": "offline_sorted beam 4",
    "unsorted": "offline_unsorted",
}
"""Cases whose throughput is compared, by the title of their column."""


def example(reply: dict[str, Any]) -> str:
    """The request of the README and what was answered."""
    body = json.dumps(EXAMPLE, ensure_ascii=False)
    answer = json.dumps(reply, ensure_ascii=False, indent=1)
    compact = re.sub(r"\{\n\s+([^{}\[\]]*?)\n\s+\}", lambda match: "{" + " ".join(match[1].split()) + "}", answer)
    request = f"curl http://127.0.0.1:3000/v1/translate \\\n  -H 'Content-Type: application/json' -d '{body}'"
    return f"```sh\n{request}\n```\n\n```json\n{compact}\n```"


def consistency_table(report: dict[str, Any]) -> str:
    """Sentences with the same translation in any company, in markdown."""
    columns = "model", "version", "precision", "set", "direction", "sentences", "identical"
    rows = [
        (
            row["model"],
            row["version"],
            row["precision"],
            row["set"],
            f"{row['source']}-{row['target']}",
            row["sentences"],
            row["identical"],
        )
        for row in report["rows"]
    ]
    note = f"{report['list']} sentences in a list, {report['clients']} clients, commit {report['commit']}."
    return f"{grid(columns, rows)}\n\n{note}"


def load_table(report: dict[str, Any]) -> str:
    """Latencies of the load test, in markdown."""
    columns = ["requests", "failures", "p50_ms", "p95_ms", "p97_ms", "p99_ms"]
    kinds = [*report["by_kind"].items(), ("all", report["total"])]
    rows = [[name, *(row.get(column, "") for column in columns)] for name, row in kinds]
    client = report["client"]
    machine = f"{client['machine']['cpu']}, {client['machine']['cores']} cores shared by server and load generator"
    models = ", ".join(f"{model['name']} {model['version']}" for model in report["models"])
    rates = f"{report['offered_per_s']:g} requests/s offered, {report['achieved_per_s']:g} achieved"
    versions = ", ".join(f"{name} {version}" for name, version in client["versions"].items() if version)
    note = f"{models}; {rates}, {report['seconds']:g} s, one run; {machine}; {versions}; commit {client['commit']}."
    return f"{grid(['request', *(column.replace('_', ' ') for column in columns)], rows)}\n\n{note}"


def summary_table(report: dict[str, Any]) -> str:
    """The engine on one core in int8, in short."""
    columns = "model", "case", "tokens/s", "times CTranslate2", "times PyTorch", "latency p50 of CTranslate2's"
    ours = [
        row for row in report["rows"] if (row["system"], row["precision"], row["cores"]) == (Attentive.name, "int8", 1)
    ]
    rows = [
        (
            row["model"],
            label(Case(row["scenario"], row["beam"], row["attention"])).replace("_", " "),
            f"{row['tokens_per_s']:.0f}",
            *map(times, (row["ratio_to_ctranslate2"], row["ratio_to_pytorch"], row["latency_ctranslate2_share"])),
        )
        for row in ours
    ]
    note = f"One core, int8 (PyTorch fp32), medians of {ours[0]['rounds']} rounds. {where(report)}"
    return f"{grid(columns, rows, 2)}\n\n{note}"


def engine_tables(report: dict[str, Any]) -> str:
    """Throughput and latency of the engine beside its peers, one model after the other."""
    names = dict.fromkeys(row["model"] for row in report["rows"])
    found = [tables([row for row in report["rows"] if row["model"] == name], Attentive.name) for name in names]
    return "\n\n".join([*(shown(table) for each in found for table in each), where(report)])


def shapes_table(report: dict[str, Any]) -> str:
    """The engine over CTranslate2 at each size, in short: a line for each model, precision and number of cores."""
    columns = "model", "precision", "cores", *SHAPE_COLUMNS, "latency p50", "sub-words of ours", "and of CTranslate2"
    found: dict[tuple[object, ...], dict[str, dict[str, Any]]] = {}
    for row in report["rows"]:
        name = label(Case(row["scenario"], row["beam"], row["attention"]))
        found.setdefault((row["model"], row["precision"], row["cores"], row["system"]), {})[name] = row

    def ratio(row: dict[str, Any] | None, name: str) -> str:
        return "-" if row is None or row[name] is None else f"{times(row[name])} ({between(row, name)})"

    rows = []
    for (*key, system), cases in found.items():
        if system == Attentive.name:
            alone = cases.get("single_stream")
            theirs = found.get((*key, CTRANSLATE2), {}).get("single_stream")
            lengths = ["-" if row is None else row["tokens_per_sentence"] for row in (alone, theirs)]
            ratios = [ratio(cases.get(case), "ratio_to_ctranslate2") for case in SHAPE_COLUMNS.values()]
            rows.append((*key, *ratios, ratio(alone, "latency_ctranslate2_share"), *lengths))
    rounds = report["rows"][0]["rounds"]
    note = (
        "Times the tokens/s of CTranslate2. Latency: share of its p50, one sentence at a time, beside the mean length "
        f"of those translations. Medians of {rounds} rounds, in brackets the least and the most. "
    )
    return f"{grid(columns, rows, 2)}\n\n{note}{where(report)}"


def limit_table(report: dict[str, Any]) -> str:
    """What the products with the weights cost at least, and the engine's share of it on one core."""
    shares = {
        (row["model"], row["precision"], label(Case(row["scenario"], row["beam"]))): row["share_of_limit"]
        for row in report["rows"]
        if (row["system"], row["cores"], row["attention"]) == (Attentive.name, 1, False)
    }
    columns = "model", "precision", "case", "GMAC/s encoder", "GMAC/s decoder", "million MAC", "ms at least", "share"
    rows = []
    for model, precisions in report["limit"].items():
        for precision, cases in precisions.items():
            for case, limit in cases.items():
                share = shares.get((model, precision, case))
                figures = limit["encoder_gmacs_per_s"], limit["decoder_gmacs_per_s"]
                work = f"{limit['macs_per_sentence'] / 1e6:.0f}", f"{1000 * limit['seconds_per_sentence']:.2f}"
                last = "-" if share is None else f"{share:.0%}"
                rows.append((model, precision, case.replace("_", " "), *figures, *work, last))
    note = "One core; work and least time are those of a sentence, share is that time over the one taken."
    return f"{grid(columns, rows, 3)}\n\n{note}"


def arrivals_tables(report: dict[str, Any]) -> str:
    """Latencies of short and long sentences with both ways of batching."""
    parts = []
    for row in report["rows"]:
        result = f"p95 of sentences under {report['short_words']} words: {row['ratio_p95_short']} of static batches'"
        same = "at the same throughput" if row["same_throughput"] else "but not at the same throughput"
        parts += [shown(arrivals.table(row)), f"{result}, {same}."]
    size = f"{report['sentences']} sentences in each of {report['rounds']} rounds, {report['slots']} slots"
    return "\n\n".join([*parts, f"Medians, {size}. {where(report)}"])


def soak_table(report: dict[str, Any]) -> str:
    """Resident memory early and late."""
    early, late = report["reference"], report["rows"][0]["checkpoints"][-1]["sentences"]
    columns = "model", "precision", f"MB after {early:,}", f"MB after {late:,}", "growth", "largest", "failed"
    rows = [
        (
            row["model"],
            row["precision"],
            *(f"{row[name]:.1f}" for name in ("reference_mb", "last_mb")),
            *(f"{row[name]:+.2f} %" for name in ("growth_percent", "largest_growth_percent")),
            sum(row["errors"].values()),
        )
        for row in report["rows"]
    ]
    return f"{grid(columns, rows, 2)}\n\n{where(report)}"


def companions_table(report: dict[str, Any]) -> str:
    """Sentences whose translation or score is another one under load."""
    columns = "model", "precision", "sentences", "with a beam", "differ", "largest difference of scores"
    rows = [
        (
            *(row[name] for name in ("model", "precision", "sentences", "with_beam", "differences")),
            f"{row['largest_score_difference']:.1e}",
        )
        for row in report["rows"]
    ]
    return f"{grid(columns, rows, 2)}\n\n{where(report)}"


def disruption_table(report: dict[str, Any]) -> str:
    """What clients notice of a worker that dies, and of a server that stops."""
    parts = [shown(disruption_report.table(report)), disruption_report.stop_line(report["stop"])]
    return "\n\n".join([*parts, f"{report['clients']} clients. {where(report)}"])


def timeline_caption(report: dict[str, Any]) -> str:
    """The picture and what it is of."""

    def middle(short: bool) -> str:
        chosen = [each for each in report["sentences"] if (each["words"] < arrivals.SHORT) == short]
        return f"{median(each['left'] - each['arrived'] for each in chosen):.1f} ms" if chosen else "-"

    size = f"{len(report['sentences'])} sentences, {report['offered_per_s']:g} a second on average"
    work = f"{len(report['encoded'])} groups encoded, {report['steps']} steps"
    kinds = f"{middle(short=True)} under {arrivals.SHORT} words, {middle(short=False)} from there on"
    note = f"{size}, {100 * report['share']:.0f} % of what the loop can do; {work}."
    waited = f"From arrival to answer, median: {kinds}."
    model = f"{report['model']} {report['version']} {report['precision']}."
    return f"![Sentences in their slots over time](engine-timeline.png)\n\n{note} {waited} {model} {where(report)}"


def overload_table(report: dict[str, Any]) -> str:
    """What becomes of arrivals beyond the capacity."""
    kept = (
        f"Goodput: replies within {overload.IN_TIME:g} s; at the highest rate {report['goodput_kept']:.0%} of the best."
    )
    share = max(row["generator"]["cpu"] for row in report["rows"])
    note = f"{report['rounds']} rounds. The generator takes up to {share:.0%} of one of the processors."
    return "\n\n".join([shown(overload.table(report)), f"{kept} {note} {where(report['machine'])}"])


def steady_table(report: dict[str, Any]) -> str:
    """Half an hour, in windows."""
    memory = report["memory"]
    growth = f"Memory after minute {report['settle']}: {memory['largest_growth_percent']:+.2f} % at most"
    statuses = ", ".join(f"{count:,} of status {status}" for status, count in report["statuses"].items())
    wrong = sum(report["wrong"].values())
    load = f"Load of the machine when it ended: {report['machine']['machine']['load_1_min']:g}"
    answers = f"Answers: {statuses}; wrong: {wrong}"
    return f"{shown(steady.table(report))}\n\n{growth}. {answers}. {load}. {where(report['machine'])}"
