"""The notebooks run from top to bottom, in the fast setting, and are committed without outputs."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="install kpose[docs] to run the notebooks")
NotebookClient = pytest.importorskip("nbclient").NotebookClient

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|jupyter_client|nbclient)")


def read(name: str):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_there_are_notebooks():
    assert len(NAMES) == 4


@pytest.mark.parametrize("name", NAMES)
def test_no_outputs_are_committed(name):
    book = read(name)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert code[0].metadata.tags == ["parameters"]
    assert code[0].source.count("KPOSE_FAST") == 1
    assert not any("FAST" in cell.source for cell in code[1:]), "the fast setting is a parameter, not other code"


@pytest.fixture(scope="module")
def client():
    """Run all notebooks in one kernel, which imports once what they share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPOSE_FAST", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]))
        patch.delenv("MPLBACKEND")  # the kernel's own shows figures
        client = NotebookClient(nbformat.v4.new_notebook(), timeout=300)
        with client.setup_kernel():
            yield client


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, client, tmp_path):
    client.nb = book = read(name)
    # Without names of another notebook, in an empty folder.
    book.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}"))
    client.execute(cleanup_kc=False)
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", ()) for output in shown)
