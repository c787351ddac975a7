"""Where real data is, and the folder of the cases."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """TENSORSMITH_DATA, else shared/data beside the checkout; the test is skipped where there is none."""
    folder = Path(os.environ.get("TENSORSMITH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}: set TENSORSMITH_DATA")
    return folder
