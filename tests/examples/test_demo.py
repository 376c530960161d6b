import json
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Folder that a quick demo has written."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.setattr(sys, "argv", ["demo.py", "--out", str(folder), "--quick"])
        runpy.run_path(str(EXAMPLES / "demo.py"), run_name="__main__")
    return folder


def test_metrics_of_both_heads(out):
    metrics = json.loads((out / "metrics.json").read_text())
    assert 0 <= metrics["cameras"]["best_of_40_deg"] <= metrics["cameras"]["best_deg"] <= 180
    assert metrics["heads"].keys() == {"keypoint", "quaternion"}
    for scores in metrics["heads"].values():
        assert 0 <= scores["angle_deg"] <= 180
        assert 0 <= scores["iou"] <= 1


def test_page_holds_its_pictures(out):
    page = (out / "index.html").read_text()
    assert page.count("<section>") == 2
    assert "without pose labels" in page
    assert "40 were fitted" in page
    assert page.count("data:image/png;base64,") == 2 * (1 + 5 + 4)
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_checkpoints_predict_photos(out):
    from kpose.inference import Predictor

    photo = next((out / "photos").glob("*.png"))
    for head in ("keypoint", "quaternion"):
        (prediction,) = Predictor.from_checkpoint(out / f"{head}.ckpt")(photo)
        assert prediction.camera.rotation.shape == (3, 3)
