"""What is kept of the base model: measured once, whole, by however many audits."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.cache import base_identity, cached_json, cached_tensors, weights_sha256


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_ORGANISMS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "audit"


def test_an_entry_is_computed_once_and_another_key_is_another_entry() -> None:
    calls: list[int] = []

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        return {"a": torch.arange(6, dtype=torch.float64).view(2, 3).T, "n": torch.tensor(3.5)}

    first, second = (cached_tensors("sums", {"layer": 1}, compute) for _ in range(2))
    assert len(calls) == 1
    assert all(torch.equal(first[name], second[name]) for name in ("a", "n"))
    cached_tensors("sums", {"layer": 2}, compute)
    cached_tensors("null", {"layer": 1}, compute)
    assert len(calls) == 3
    assert cached_json("rows", {"x": 1}, lambda: [{"a": 0.1}]) == [{"a": 0.1}]
    assert cached_json("rows", {"x": 1}, lambda: pytest.fail("computed again")) == [{"a": 0.1}]


def test_a_failed_computation_leaves_no_entry(cache: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cached_tensors("sums", {}, fail)
    with pytest.raises(ValueError, match="not JSON compliant"):
        cached_json("rows", {}, lambda: [float("nan")])
    assert torch.equal(cached_tensors("sums", {}, lambda: {"a": torch.ones(2)})["a"], torch.ones(2))
    assert cached_json("rows", {}, lambda: [1]) == [1]
    assert not [path for path in cache.rglob("*") if ".tmp" in path.name]


def test_audits_may_race_for_an_entry() -> None:
    barrier, errors, values = threading.Barrier(6), [], []

    def compute() -> dict[str, Tensor]:
        barrier.wait()  # all have found nothing
        time.sleep(0.01)
        return {"a": torch.full((1000,), 7.0)}

    def audit() -> None:
        try:
            for _ in range(3):
                values.append(cached_tensors("sums", {"race": 1}, compute)["a"])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=audit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(values) == 18 and all(bool((value == 7).all()) for value in values)


def test_a_model_is_known_by_its_weights_and_not_by_its_place(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "optimizer.pt").write_bytes(folder.name.encode())
    a, b = folders
    assert base_identity(str(a), None) == base_identity(str(b), None)
    assert weights_sha256(a) == weights_sha256(b)
    (b / "model.safetensors").write_bytes(b"weightz")
    assert weights_sha256(a) != weights_sha256(b)
    (b / "model.safetensors").write_bytes(b"weights")
    (b / "config.json").write_text(json.dumps({"rope_theta": 2}))
    assert weights_sha256(a) != weights_sha256(b)
