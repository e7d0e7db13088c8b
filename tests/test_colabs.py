"""The notebooks of colabs/: they run, and what is committed is what they said."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "colabs"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LIMIT = 350_000  # bytes of a notebook with its outputs, a report among them
MACHINE = re.compile(r"/(home|opt|root|tmp|Users)/\w")
SOURCE = "CMWJAX_SOURCE"  # the one place that says where the package comes from


def code_cells(content):
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def code_of(content):
    return "\n".join("".join(cell["source"]) for cell in code_cells(content))


def words_of(cell):
    """What a cell printed."""
    return "".join(
        "".join(output["text"])
        for output in cell["outputs"]
        if output["output_type"] == "stream"
    )


def pictures_of(content):
    kinds = [
        kind
        for cell in code_cells(content)
        for output in cell["outputs"]
        for kind in output.get("data", ())
    ]
    return sum(kind == "image/png" for kind in kinds), "text/html" in kinds


def test_there_are_two_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["cmwnet_tpu", "your_own_data"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_committed(path):
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert len(text) < LIMIT
    cells = code_cells(content)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    kinds = {output["output_type"] for output in outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert not [o for o in outputs if o.get("name") == "stderr"]  # no warning either
    pictures, has_page = pictures_of(content)
    assert pictures >= 1
    assert has_page == (path.stem == "your_own_data")  # the report
    for cell in cells:
        assert not MACHINE.search(words_of(cell)), cell["id"]
    assert code_of(content).count(SOURCE) == 1
    assert code_of(content).count("pip install") == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.parametrize("devices", [1, 4])
def test_they_run(path, devices, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(devices))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("PYTHONWARNINGS", "error::UserWarning,error::FutureWarning")
    monkeypatch.setenv(SOURCE, "")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    kept = json.loads(path.read_text(encoding="utf-8"))
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=600, resources=place)
    client.execute()  # raises if a cell does
    assert pictures_of(notebook) == pictures_of(kept)
    said = "\n".join(words_of(cell) for cell in code_cells(notebook))
    if path.stem == "your_own_data":
        accuracy = re.search(r"accuracy on new images: ([\d.]+)%", said)
        assert accuracy and float(accuracy[1]) > 94
        return
    assert f"{devices} x cpu" in said
    last = re.search(r"epoch 60: .* ([\d.]+)%, ordinary training ([\d.]+)%", said)
    assert last and float(last[1]) > float(last[2]) + 10
    auroc = re.search(r"AUROC of wrong labels by weight: ([\d.]+)", said)
    assert auroc and float(auroc[1]) > 0.95
