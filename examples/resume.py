"""A run that is stopped after two epochs and taken up again ends with the bits of one that is not stopped."""

import tempfile
from pathlib import Path

from tensorsmith.train import Settings, run

settings = Settings.default("digits", "cnn").replace(epochs=4)
with tempfile.TemporaryDirectory() as folder:
    checkpoint = Path(folder) / "run.safetensors"
    through = run(settings)
    run(settings, checkpoint=checkpoint, stop_after=2)
    resumed = run(settings, resume=checkpoint)

print(f"uninterrupted: accuracy {through.accuracy:.4f}, sha256 {through.parameters_hash}")
print(f"resumed:       accuracy {resumed.accuracy:.4f}, sha256 {resumed.parameters_hash}")
assert through.parameters_hash == resumed.parameters_hash
