"""The lock files hold what pyproject.toml asks for, agree with each other, and name no place to download from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "cpu": ["serve", "cpu"],
    "gpu": ["serve", "gpu"],
    "dev": ["serve", "client", "cpu", "train", "load", "bench", "dev"],
}
"""Lock file -> extras it is compiled from, as in the Makefile."""


def pins(name: str) -> dict[str, str]:
    """Distribution -> version. Every line must be a comment or a plain pin."""
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in pinned)
    return {canonicalize_name(distribution): version for distribution, version in (pin.split("==") for pin in pinned)}


@pytest.mark.parametrize("name", EXTRAS)
def test_everything_asked_for_is_pinned_to_a_version_that_fits(name: str):
    asked = [r for extra in EXTRAS[name] for r in PROJECT["optional-dependencies"][extra]]
    assert PROJECT["dependencies"] == []
    pinned = pins(name)
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_serving_has_the_versions_that_are_tested_and_no_training(name: str):
    tested, served = pins("dev"), pins(name)
    assert {d: v for d, v in served.items() if tested.get(d, v) != v} == {}
    assert not {"torch", "accelerate", "onnx", "locust", "pytest"} & set(served)


def test_only_the_gpu_brings_cuda():
    cuda = re.compile(r"nvidia-cu|nvidia-nv|triton|onnxruntime-gpu")
    assert [d for name in ("cpu", "dev") for d in pins(name) if cuda.match(d)] == []
    assert [d for d in pins("gpu") if cuda.match(d)] != []


@pytest.mark.parametrize("name", EXTRAS)
def test_no_machine_shows(name: str):
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert "://" not in text
    assert not re.search(r"(^|\s)/", text)
