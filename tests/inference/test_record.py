import json
from dataclasses import replace

import pytest
import torch

from kpose.inference import Prediction
from kpose.inference._record import json_text, prediction_record


def test_json_holds_the_camera_for_other_libraries(small_prediction: Prediction) -> None:
    camera = json.loads(json_text(prediction_record(small_prediction)))["camera"]
    point = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    own, opencv, blender = (camera[name] for name in ("pixels", "opencv", "blender"))
    turned = torch.tensor(own["rotation"]).double() @ point
    expected = own["scale"] * turned[:2] + torch.tensor(own["translation"])
    seen = torch.tensor(opencv["matrix"]).double() @ (
        torch.tensor(opencv["rotation"]).double() @ point + torch.tensor(opencv["translation"])
    )
    torch.testing.assert_close(seen[:2] / seen[2] + 0.5, expected, atol=0.05, rtol=0)
    assert blender["ortho_scale"] == pytest.approx(48 / own["scale"])
    assert torch.tensor(camera["pytorch3d"]["R"]).shape == (3, 3)


def test_what_a_head_does_not_predict_is_null(small_prediction: Prediction) -> None:
    record = prediction_record(small_prediction)
    assert (record["located_by"], record["pose_from"], record["valid"]) == ("frame", "regression", True)
    assert record["keypoints"] is record["covariance"] is record["box"] is record["score"] is None
    sure = prediction_record(replace(small_prediction, score=0.75, expected_error_deg=21.5))
    assert (sure["score"], sure["expected_error_deg"]) == (0.75, 21.5)
    both = replace(small_prediction, keypoints=torch.ones(2, 2), confidence=torch.tensor([0.5, float("inf")]))
    with pytest.raises(ValueError, match="not finite"):
        prediction_record(both)


def test_an_object_without_extent_has_a_record(small_prediction: Prediction) -> None:
    tiny = torch.finfo(torch.float32).tiny
    point = replace(
        small_prediction,
        camera=small_prediction.camera._replace(scale=torch.tensor(tiny)),
        crop_camera=small_prediction.crop_camera._replace(scale=torch.tensor(tiny)),
    )
    camera = json.loads(json_text(prediction_record(point)))["camera"]
    assert camera["crop"]["scale"] == pytest.approx(tiny)
    assert camera["blender"]["ortho_scale"] is None
