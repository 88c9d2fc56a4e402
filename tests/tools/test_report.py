"""`make report`: from recorded files to pages, without training."""

import pandas as pd
import pytest
from invented import Invented, recorded

from cwd.experiments import workspace
from cwd.system.errors import CwdError
from cwd.tools.report import report


def test_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace.paths, "RUNS", tmp_path / "runs")
    table3 = ("CW_f", "CW_f(metric=bhattacharyya)", "CW_f(metric=l2)", "CW_f(metric=swapped)")
    source = Invented({recipe: (51.5, 52.25, 53.0) for recipe in table3} | {"": (50.0, 51.0, 52.0)})
    recorded(tmp_path, source)
    page = report(results=tmp_path / "results", output=tmp_path / "report")
    table = pd.read_csv(page.parent / "quick" / "tables" / "table3.csv", index_col=0)
    assert table.loc["CW_f", "our mIoU (streets)"] == 52.25
    assert table.loc["CW_f", "paper mIoU (Cityscapes)"] == 73.52
    figures = {path.stem for path in (page.parent / "quick" / "figures").glob("*.png")}
    assert {"table3", "claims"} <= figures
    assert "figure3" not in figures  # nothing of it was measured
    assert not (tmp_path / "runs").exists()  # nothing was trained
    for said in ("a CPU, 2 threads", "0123456789ab", "17 of 18 rows of table2, not measured",
                 "13 of 13 rows of table5, not measured"):  # fmt: skip
        assert said in page.read_text()
    # from the committed notebooks
    pictures = {path.stem for path in (page.parent / "pictures" / "figures").glob("*.png")}
    assert {"figure5", "figure6", "figure7", "figure8"} <= pictures


def test_nothing_recorded(tmp_path):
    (tmp_path / "results").mkdir()
    with pytest.raises(CwdError, match="holds no results"):
        report(results=tmp_path / "results", output=tmp_path / "report")
