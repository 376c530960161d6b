import pytest

from kpose.heads import QuaternionHead
from kpose.pipeline import (
    AdaptationSettings,
    ChoiceSettings,
    PoseSettings,
    RerankSettings,
    SearchSettings,
    ShapeSettings,
)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (SearchSettings, {"levels": ()}, "a level; got none"),
        (SearchSettings, {"batch_size": 0}, "batch_size from 1; got 0"),
        (ChoiceSettings, {"rounds": 0}, "rounds from 1; got 0"),
        (ShapeSettings, {"epochs": 0}, "epochs from 1; got 0"),
        (ShapeSettings, {"keep": 0}, "keep from 1; got 0"),
        (PoseSettings, {"epochs": -1}, "epochs from 1; got -1"),
        (PoseSettings, {"learning_rate": float("nan")}, "learning_rate from 0; got nan"),
        (PoseSettings, {"feature_dropout": 1.0}, r"feature_dropout in \[0, 1\); got 1"),
        (AdaptationSettings, {"batch_size": 0}, "batch_size from 1; got 0"),
        (RerankSettings, {"rounds": 0}, "a round, two folds and a weight"),
        (RerankSettings, {"folds": 1}, "a round, two folds and a weight"),
        (RerankSettings, {"weight": 1.5}, "a round, two folds and a weight"),
        (RerankSettings, {"heads": {}}, "a head; got none"),
    ],
)
def test_numbers_that_a_stage_would_fail_on_are_refused(kind, wrong, message):
    given = {"heads": {"quaternion": QuaternionHead}} if kind is RerankSettings else {}
    kind(**given)
    with pytest.raises(ValueError, match=f"{kind.__name__} needs {message}"):
        kind(**{**given, **wrong})
