"""CTranslate2, at each setting that may be its best.

Imports no torch, since every setting is a process that has to start.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2

from loadtests.peers import BATCH, Search, System, Translation
from loadtests.peers.child import Child

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
"""What a processor needs for the kernels of that name."""


class CTranslate2(System):
    """Batches of ``BATCH`` in the order given, all queued at once; it removes padding and finished rows itself."""

    name = "ctranslate2"

    def __init__(self, directory: Path, vocabulary: Sequence[str], precision: str, *, inter: int, intra: int) -> None:
        """``inter`` batches at a time, ``intra`` threads for each; ``vocabulary``: the piece of each id."""
        super().__init__(precision, inter * intra, f"inter_threads={inter} intra_threads={intra}")
        self._pieces = vocabulary
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}
        self._translator = ctranslate2.Translator(
            str(directory),
            compute_type=COMPUTE_TYPES[precision],
            inter_threads=inter,
            intra_threads=intra,
            max_queued_batches=-1,
        )

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        texts = [[self._pieces[i] for i in source] for source in sources]
        queued = [
            waiting
            for start in range(0, len(texts), BATCH)
            for waiting in self._translator.translate_batch(
                texts[start : start + BATCH],
                asynchronous=True,
                beam_size=search.beam_size,
                max_input_length=0,
                max_decoding_length=search.max_length,
                min_decoding_length=0,
                return_attention=search.attention,
            )
        ]
        return [self._translation(waiting.result(), search.attention) for waiting in queued]

    def _translation(self, result: Any, attention: bool) -> Translation:
        ids = [self._ids[piece] for piece in result.hypotheses[0]]
        return Translation(ids, result.attention[0] if attention else None)

    def close(self) -> None:
        self._translator.unload_model()


def environments(flags: set[str]) -> list[dict[str, str]]:
    """Variables to try: its own choice of kernels, and AVX512, which it does not choose wherever it could."""
    return [{}, {"CT2_FORCE_CPU_ISA": "AVX512"}] if flags >= AVX512 else [{}]


def in_child(
    directory: Path, vocabulary: Sequence[str], precision: str, inter: int, intra: int, environment: Mapping[str, str]
) -> Child:
    """:class:`CTranslate2` in a process of its own, with ``environment`` beside the variables already set."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith("CT2_")}
    variables = [f"{name}={value}" for name, value in sorted({**inherited, **environment}.items())]
    setup = " ".join([f"inter_threads={inter} intra_threads={intra}", *variables])
    build = partial(CTranslate2, directory, vocabulary, precision, inter=inter, intra=intra)
    return Child(CTranslate2.name, precision, inter * intra, setup, build, environment)
