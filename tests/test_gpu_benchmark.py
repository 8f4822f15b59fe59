"""The benchmark of GPUs: refused where there is none, and its code run with tensors on the CPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("benchmark_gpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "device='cuda' was asked for, but PyTorch" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu.main([]) == 2
    assert "'congruence[torch]'" in capsys.readouterr().err


def test_every_row_runs(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu.md")]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert page in capsys.readouterr().out
    assert page.startswith("15 pairs, n=60, p=12, on CPU")
    for label in gpu.MEASURES:
        for precision in gpu.WITHIN:
            assert f"| `{label}` | {precision} |" in page
    assert "One nuclear norm of 12 x 12 in float32: eigenvalues" in page
    assert "Matrix product in float64" in page


def test_values_that_differ_fail(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "WITHIN", {"float64": -1.0})
    assert gpu.main(["--device", "cpu", "--tiny", "--measure", "cka"]) == 1
    assert "cka in float64: values differ by" in capsys.readouterr().err
