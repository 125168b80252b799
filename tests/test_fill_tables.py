"""Measured tables reach the pages as they were measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from detokenizers.evaluation.bootstrap import Interval
from detokenizers.evaluation.results import Metric, measured

SCRIPT = Path(__file__).parent.parent / "scripts" / "fill_tables.py"
PSNR, FD = Metric("PSNR", "higher", "dB"), Metric("FD-world", "lower")


@pytest.fixture
def script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("fill_tables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    return module


def results(folder: str, **decoders: dict) -> None:
    path = Path("out/tables") / folder / "results.json"
    path.parent.mkdir(parents=True)
    gaps = {name: {"metrics": entry["metrics"]} for name, entry in list(decoders.items())[1:]}
    path.write_text(json.dumps({"decoders": decoders, "differences": gaps}))


def test_tables_are_written_below_their_markers_and_only_there(script, monkeypatch, capsys):
    def entry(psnr: float, distance: float, **more: dict) -> dict:
        metrics = {"psnr": measured(PSNR, psnr, Interval(psnr - 1, psnr + 1)), "fd": measured(FD, distance)}
        return {"metrics": metrics, **more}

    score = {"score": measured(Metric("agreement", "higher"), 0.5), "tasks": {}, "background": None}
    results("two/evaluated", vq=entry(25.53, 5.0, agreement=score), vae=entry(34, 0.1), dcdd=entry(29.26, 0.94))
    lite = measured(Metric("FD-lite", "lower"), 2.5)
    results("two/published", dcdd={"metrics": {"fd_lite": lite}})
    page = """before

<!-- table: two/evaluated -->
| old |
|---|

between
<!-- table: two/evaluated plain psnr -->
after
<!-- table: two/evaluated differences -->
<!-- table: three/evaluated -->
| kept |
"""
    Path("page.md").write_text(page)
    monkeypatch.setattr("sys.argv", ["fill_tables.py", "page.md"])
    script.main()
    assert (
        Path("page.md").read_text()
        == """before

<!-- table: two/evaluated -->
| decoder | PSNR (dB) ↑ | FD-world ↓ | agreement ↑ | FD-lite ↓ |
| --- | ---: | ---: | ---: | ---: |
| vq | 25.53 [24.53, 26.53] | 5.000 | **0.500** | – |
| vae | 34.00 [33.00, 35.00] | 0.100 | – | – |
| dcdd | **29.26** [28.26, 30.26] | **0.940** | – | **2.500** |

between
<!-- table: two/evaluated plain psnr -->
| decoder | PSNR (dB) ↑ |
| --- | ---: |
| VQ | 25.53 |
| DCDD | **29.26** |
after
<!-- table: two/evaluated differences -->
| pair | PSNR (dB) ↑ | FD-world ↓ |
| --- | ---: | ---: |
| vae | +34.00 [33.00, 35.00] | +0.100 |
| dcdd | +29.26 [28.26, 30.26] | +0.940 |
<!-- table: three/evaluated -->
| kept |
"""
    )
    assert "out/tables/three/evaluated/results.json is not there" in capsys.readouterr().out


def test_numbered_folders_are_one_table_in_the_order_of_their_numbers(script, monkeypatch):
    for value in (16, 4, 1.5):
        metrics = {"fd": measured(FD, value / 2)}
        results(f"curve/{value}/evaluated", two={"metrics": metrics}, one={"metrics": metrics})
        results(f"alone/{value}/evaluated", one={"metrics": metrics})
    Path("page.md").write_text("<!-- table: curve/*/evaluated -->\n\n<!-- table: alone/*/evaluated -->\n")
    monkeypatch.setattr("sys.argv", ["fill_tables.py", "page.md"])
    script.main()
    rows = [line.split(" | ")[0] for line in Path("page.md").read_text().splitlines() if line.startswith("| ")]
    assert rows[2:8] == ["| one 1.5", "| one 4", "| one 16", "| two 1.5", "| two 4", "| two 16"]
    assert rows[10:] == ["| 1.5", "| 4", "| 16"]
