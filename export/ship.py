"""A finished package: checked against PyTorch, with its card, in the place of an older one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from export.card import write_card
from export.package import MANIFEST, Package, Precision
from export.parity import Sources, compare, require
from models.translator import Translator


def check(model: Translator, tokenizer: Sources, package: Package, texts: Sequence[tuple[str, str]]) -> Table:
    """Every precision against PyTorch. Raises :class:`export.parity.ParityError` where fp32 differs."""
    table = Table("precision", "sentences", "identical", "largest log-prob difference", title=package.manifest.name)
    for precision in package.manifest.precisions:
        parity = compare(model, tokenizer, package, precision, texts)
        cells = parity.sentences, parity.identical, f"{parity.log_prob_difference:.2g}"
        table.add_row(precision, *map(str, cells))
        if precision == "fp32":
            require(parity)
    return table


def replaceable(output: Path) -> bool:
    """Nothing is lost by writing a package there: there is nothing, or a package."""
    return not output.exists() or not any(output.iterdir()) or (output / MANIFEST).exists()


def ship(package: Package, output: Path, precisions: Sequence[Precision]) -> str:
    """Put a package, in some of its precisions, where an older one may be. Returns what was written, in words."""
    kept = {name: graphs for name, graphs in package.manifest.graphs.items() if name in precisions}
    package.manifest = package.manifest.model_copy(update={"graphs": kept})
    package.save_manifest()
    write_card(package)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for name in (MANIFEST, "README.md", *(file.name for file in package.files())):
        shutil.copyfile(package.path / name, output / name)
    size = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    return f"{output}: {', '.join(precisions)}, {size:.1f} MB"
