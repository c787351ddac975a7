"""`tensorsmith train --device cuda`: the run of the CPU, and its checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import cli, train

if not ts.cuda.is_available():
    pytest.skip(ts.cuda.why_not() or "", allow_module_level=True)

SETTINGS = train.Settings.default("digits", "mlp").replace(epochs=2, batch_size=256, dropout=0.2)
ON_CUDA = SETTINGS.replace(device="cuda")


def test_the_losses_of_the_cpu() -> None:
    ours, cpu = train.run(ON_CUDA), train.run(SETTINGS)
    assert next(ours.model.parameters()).device == "cuda"
    for a, b in zip(ours.curve, cpu.curve, strict=True):
        np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-4)
        np.testing.assert_allclose(a.validation_loss, b.validation_loss, rtol=1e-4)
    assert abs(ours.accuracy - cpu.accuracy) < 0.01
    assert ours.parameters_hash == train.run(ON_CUDA, jit=False).parameters_hash


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    train.run(ON_CUDA, stop_after=1, checkpoint=path)
    assert train.run(ON_CUDA, resume=path).parameters_hash == train.run(ON_CUDA).parameters_hash


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--model", "mlp", "--epochs", "1", "--batch-size", "256", "--device", "cuda"]
    assert cli.main(arguments) == 0
    assert "test accuracy: 0." in capsys.readouterr().out
    assert (tmp_path / "digits-mlp.safetensors").exists()
