import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser

from kpose.heads import KeypointHead, PoseHead, QuaternionHead
from kpose.losses import PixelDistance
from kpose.recipe import Recorded, build, encode, encode_factory
from kpose.structures import FeatureSpec, Template
from kpose.templates import bird

SPEC = FeatureSpec((8, 16), (16, 32))
TRUSTED = [__name__]


class Kind(Enum):
    PLAIN = "plain"


@dataclass(frozen=True)
class Grid:
    size: int = 3
    steps: tuple[float, ...] = (0.5, 1.0)


class TwinHead(QuaternionHead):
    """Has another head beside it."""

    def __init__(self, spec, template, *, inner):
        super().__init__(spec, template)
        self.inner = inner(spec, template)


class Part(Recorded):
    def __init__(self, size, *, inner=None, make=None, grid=None, **others):
        self.size, self.inner, self.make, self.grid, self.others = size, inner, make, grid, others


class Child(Part):
    def __init__(self, *args, depth=1, **kwargs):
        super().__init__(*args, **kwargs)
        self.depth = depth


class Grandchild(Child):
    pass


def test_a_part_is_built_again_from_json():
    part = Part(
        2, inner=[Part(3), {"name": "x"}], make=functools.partial(Part, size=4), grid=Grid(5), extra=(1, Part(6))
    )
    again = build(json.loads(json.dumps(encode(part))), trusted_modules=TRUSTED)
    assert type(again) is Part
    assert again.inner[0].size == 3
    assert again.inner[1] == {"name": "x"}
    assert again.make().size == 4
    assert again.grid == Grid(5)
    assert isinstance(again.others["extra"], tuple)
    assert again.others["extra"][1].size == 6
    assert encode(again) == encode(part)


def test_the_outermost_constructor_is_recorded_with_its_defaults():
    assert encode(Grandchild(depth=3, size=2))["init_args"]["depth"] == 3
    assert encode(Grandchild(depth=3, size=2))["init_args"]["size"] == 2
    assert encode(Part(2))["init_args"] == {"size": 2, "inner": None, "make": None, "grid": None}


def test_a_wrong_call_fails_as_it_would_without_recording():
    with pytest.raises(TypeError, match="size"):
        Part()


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "text", [1, [2]], (1, (2,)), {"a": {"b": [1]}}])
def test_plain_values_survive(value):
    assert build(json.loads(json.dumps(encode(value)))) == value


def test_paths_and_members_become_what_they_hold():
    assert encode([Path("a/b"), Kind.PLAIN]) == ["a/b", "plain"]


@pytest.mark.parametrize(
    "value",
    [torch.zeros(1), object(), lambda: 0, functools.partial(Part, 3), {1: 2}, {"factory": 1}, {"tuple": []}, SPEC],
)
def test_what_cannot_be_described_is_refused(value):
    with pytest.raises(TypeError, match="A recipe needs"):
        encode(value)


def test_specs_and_templates_belong_to_the_network():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8)
    assert "template" not in encode_factory(head)["init_args"]
    again = build(encode_factory(head))(SPEC, bird())
    assert torch.equal(again.keypoint_indices, head.keypoint_indices)


@pytest.mark.parametrize(
    "make",
    [QuaternionHead, functools.partial(QuaternionHead, width=16), lambda *parts: QuaternionHead(*parts, width=24)],
)
def test_any_callable_that_built_an_inner_part_is_described(make):
    head = TwinHead(SPEC, bird(), inner=make)
    again = build(encode_factory(head), trusted_modules=TRUSTED)(SPEC, bird())
    assert again.inner.output.weight.shape == head.inner.output.weight.shape


def test_classes_are_named_by_the_face_that_exports_them():
    assert encode(QuaternionHead) == {"factory": "kpose.heads.QuaternionHead"}
    assert encode(Part) == {"factory": f"{__name__}.Part"}


def test_what_is_not_trusted_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "unknown_module.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="no class of kpose"):
        build({"class_path": "unknown_module.Part"})
    with pytest.raises(ValueError, match="no class of kpose"):
        build({"class_path": "kpose.heads.keypoint.torch"})


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_factories_of_a_configuration_file_are_described_like_others():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--head", type=Callable[[FeatureSpec, Template], PoseHead])
    settings = parser.parse_args(["--head=QuaternionHead", "--head.width=8"])
    factory = (getattr(parser, "instantiate", None) or parser.instantiate_classes)(settings).head
    found = encode(factory)
    assert (found["factory"], found["init_args"]["width"]) == ("kpose.heads.QuaternionHead", 8)
    assert build(found).func is QuaternionHead
    with pytest.raises(TypeError, match="Give one of these"):
        encode(functools.partial(QuaternionHead, FeatureSpec((8,), (4,))))


def test_a_part_without_a_constructor_has_no_arguments():
    assert encode(PixelDistance()) == {"class_path": "kpose.losses.PixelDistance"}
