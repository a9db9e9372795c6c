"""Where and with what something was measured; goes into every report."""

import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
INSTRUCTIONS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX512 with VNNI",
    "avx_vnni": "AVX2 with VNNI",
    "avx512f": "AVX512",
    "avx2": "AVX2",
    "i8mm": "Arm with I8MM",
    "asimddp": "Arm with dot products",
}
"""By the system's names of processor flags, best first."""


def describe(*distributions: str) -> dict[str, Any]:
    """Machine, commit, time and the installed versions of ``distributions`` as plain JSON values.

    What is not there (a GPU, a repository, a distribution) is ``None``.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "cpu": cpu(),
            "instructions": instructions(processor_flags()),
            "cores": psutil.cpu_count(logical=True),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "gpu": output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "load_1_min": round(psutil.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in distributions},
    }


def cpu() -> str:
    """The processor's name as the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def processor_flags() -> set[str]:
    """What the processor can do; empty where the system does not say so."""
    if sys.platform != "linux":
        return set()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def instructions(flags: set[str]) -> str | None:
    """The best that the processor has for products of 8-bit numbers, which makes them fast or slow."""
    return next((name for flag, name in INSTRUCTIONS.items() if flag in flags), None)


def commit() -> str | None:
    """Hash of the checked-out commit, with ``-dirty`` where the files differ from it."""
    return output("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def output(*command: str) -> str | None:
    """What ``command`` prints, or ``None`` where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
