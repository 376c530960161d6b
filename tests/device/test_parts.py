"""Renderers, metrics and augmentations on a device: what they give on the CPU, with nothing left there."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from kpose.data._transforms import RandomColor, RandomCropJitter, RandomFlip
from kpose.geometry import project
from kpose.metrics import AngularError, KeypointTransfer, MaskIoU, VideoJaccard, ViewpointWasserstein
from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer, vertex_visibility
from kpose.structures import Mesh
from kpose.templates import bird
from kpose.testing import example_batch

PARTS = torch.tensor([5, 100, 250, 400, 600])
RENDERERS = {"hard": HardRenderer, "soft": SoftRenderer, "composite": CompositeRenderer}
FLIP = RandomFlip(0.5, vertex_mirror=bird().mirror)
AUGMENTATIONS = {"crop": RandomCropJitter(48), "flip": FLIP, "color": RandomColor(0.3)}


def to(device, value):
    return tree_map_only(torch.Tensor, lambda part: part.to(device), value)


def birds(count):
    return Mesh(bird().vertices.expand(count, -1, -1), bird().faces)


def parts(camera):
    mesh = birds(len(camera.scale))
    return project(mesh.vertices, camera)[:, PARTS], vertex_visibility(mesh, camera)[:, PARTS]


def angle(camera, other):
    return AngularError(), [(camera, other)]


def viewpoints(camera, other):
    return ViewpointWasserstein(), [(camera, other)]


def iou(camera, other):
    draw = SoftRenderer()
    return MaskIoU(), [tuple(draw.silhouette(birds(4), each, (24, 24)) for each in (camera, other))]


def transfer(camera, other):
    return KeypointTransfer(num_pairs=50), [(other, birds(4), *parts(camera), torch.ones(4), torch.arange(4))]


METRICS = (angle, viewpoints, iou, transfer)


@pytest.mark.parametrize("renderer", RENDERERS.values(), ids=RENDERERS)
def test_renderers_draw_what_they_draw_on_the_cpu(place, renderer):
    mesh, camera = birds(2), example_batch(2)["camera"]
    expected = renderer().render(mesh, camera, (24, 32))
    found = renderer().render(to(place.device, mesh), to(place.device, camera), (24, 32))
    assert found.mask.device == place.device
    torch.testing.assert_close(found.mask.cpu(), expected.mask, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS, ids=[metric.__name__ for metric in METRICS])
def test_metrics_count_what_they_count_on_the_cpu(place, metric):
    cameras = example_batch(4)["camera"], example_batch(4, seed=1)["camera"]
    (here, batches), (there, _) = metric(*cameras), metric(*cameras)
    there = there.to(place.device)
    for batch in batches:
        here.update(*batch)
        there.update(*to(place.device, batch))
    expected, found = here.compute(), to("cpu", there.compute())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_jaccard_figures_of_videos_are_those_of_the_cpu(place):
    draw = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 2, 12, 12, generator=draw) > 0.4
    here, there = VideoJaccard(["swan"]), VideoJaccard(["swan"]).to(place.device)
    for frame, pair in enumerate(masks):
        here.update(*pair, sequence="swan", object_id=1, frame=frame)
        there.update(*to(place.device, tuple(pair)), sequence="swan", object_id=1, frame=frame)
    torch.testing.assert_close(to("cpu", there.compute()), here.compute())


@pytest.mark.parametrize("augmentation", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_augmentations_draw_the_same_on_every_device(place, augmentation):
    batch = example_batch(4)
    torch.manual_seed(0)
    expected = augmentation(dict(batch))
    torch.manual_seed(0)
    found = augmentation.to(place.device)(to(place.device, dict(batch)))
    augmentation.cpu()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        for part, other in zip(tree_leaves(found[name]), tree_leaves(value), strict=True):
            assert part.device == place.device
            torch.testing.assert_close(part.cpu(), other, rtol=1e-4, atol=1e-4)
