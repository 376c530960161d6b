import math
from functools import partial

import pytest
import torch
from reconstruction.scenes import birds, camera_table, small_reconstructor

from kpose.backbones import TinyBackbone
from kpose.losses import FeatureDistance, PixelDistance
from kpose.reconstruction import CameraOptimizer, MultiplexObjective
from kpose.rendering import CompositeRenderer
from kpose.structures import Batch, Camera, Crop
from kpose.templates import bird

DISTANCES = {"pixels": PixelDistance, "features": partial(FeatureDistance, TinyBackbone(width=8).freeze())}


class Scene:
    """Network, cameras and objective for some birds."""

    def __init__(self, distance="pixels", **settings):
        torch.manual_seed(0)
        self.batch = birds()
        self.backbone = TinyBackbone(width=8).eval()
        self.network = small_reconstructor(self.backbone.spec, bird())
        self.table = camera_table(self.batch)
        self.cameras = CameraOptimizer(self.table)
        self.objective = MultiplexObjective(bird(), DISTANCES[distance](), **settings)
        with torch.no_grad():
            self.cameras.residual += 0.1 * torch.randn_like(self.cameras.residual)

    def parameters(self):
        return [*self.network.parameters(), *self.backbone.parameters()]

    def compare(self, images=None):
        batch = self.batch if images is None else pick(self.batch, images)
        rows = self.table.rows(batch["index"])
        residuals = self.cameras.residuals(rows)
        shape = self.network(self.backbone(batch["image"]))
        cameras = self.table.in_crop(self.cameras.cameras(rows, residuals), rows, batch["crop"], batch["flipped"])
        mesh = self.network.mesh(shape)
        return residuals, self.objective(shape, mesh, cameras, batch["image"], batch["mask"])


def pick(batch, images):
    found = Batch(**{name: value[images] for name, value in batch.items() if isinstance(value, torch.Tensor)})
    found["camera"] = Camera(*(part[images] for part in batch["camera"]))
    found["crop"] = Crop(*(part[images] for part in batch["crop"]))
    return found


def missed_overlap(comparison, image, camera):
    """One minus the soft intersection over union, written out once more."""
    rendered, mask = comparison.silhouettes[image, camera], comparison.mask[image].float()
    return 1 - torch.minimum(rendered, mask).sum() / torch.maximum(rendered, mask).sum()


def total_of(scene, comparison):
    """The network's loss, written out once more."""
    n, p = comparison.mask_loss.shape
    total = 0.0
    for image in range(n):
        for camera in range(p):
            both = 10 * comparison.mask_loss[image, camera] + comparison.appearance_loss[image, camera]
            both = both + scene.objective.overlap_weight * missed_overlap(comparison, image, camera)
            total = total + comparison.weights[image, camera].item() * both / n
    deformation = comparison.shape.deformation
    total = total + deformation.norm(dim=-1).mean()
    vertices = comparison.shape.vertices
    dense = torch.zeros(642, 642)
    for a, b, c in bird().faces.tolist():
        for i, j in ((a, b), (b, c), (c, a)):
            dense[i, j] = dense[j, i] = -1
    dense.diagonal().copy_(-dense.sum(1))
    return total + 0.5 * (dense @ vertices).norm(dim=-1).mean()


@pytest.mark.parametrize(
    ("distance", "max_pairs", "overlap_weight"),
    [("pixels", 1 << 22, 0.0), ("features", 40000, 0.0), ("pixels", 1 << 22, 2.0)],
)
def test_both_gradients_equal_those_of_either_loss_alone(distance, max_pairs, overlap_weight):
    renderer = CompositeRenderer(sigma=1e-3, max_pairs=max_pairs)
    scene = Scene(distance, renderer=renderer, overlap_weight=overlap_weight)
    residuals, comparison = scene.compare()
    expected = torch.autograd.grad(total_of(scene, comparison), scene.parameters())
    residuals, comparison = scene.compare()
    camera_loss = 10 * comparison.mask_loss + comparison.appearance_loss
    camera_loss = (camera_loss + overlap_weight * comparison.overlap_loss).sum()
    (expected_camera,) = torch.autograd.grad(camera_loss, residuals)

    residuals, comparison = scene.compare()
    scalar, gradient = scene.objective.gradients(comparison, residuals)
    found = torch.autograd.grad(scalar, scene.parameters())
    assert torch.allclose(gradient, expected_camera, rtol=1e-4, atol=1e-6)
    assert expected_camera.abs().flatten(1).sum(1).min() > 0
    largest = max(float(theirs.abs().max()) for theirs in expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


def test_the_gradient_of_a_camera_does_not_depend_on_its_batch():
    scene = Scene(renderer=CompositeRenderer(sigma=1e-3))
    residuals, comparison = scene.compare()
    _, together = scene.objective.gradients(comparison, residuals)
    for image in range(4):
        residuals, comparison = scene.compare([image])
        _, alone = scene.objective.gradients(comparison, residuals)
        assert torch.allclose(together[image], alone[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("overlap_weight", [0.0, 2.0])
def test_terms_sum_to_the_total(overlap_weight):
    scene = Scene(overlap_weight=overlap_weight)
    _, comparison = scene.compare()
    terms = scene.objective.terms(comparison)
    assert set(terms) - {"overlap"} == {"mask", "appearance", "deformation", "laplacian"}
    assert ("overlap" in terms) == (overlap_weight > 0)
    assert torch.allclose(torch.stack(list(terms.values())).sum(), total_of(scene, comparison), rtol=1e-4)


def test_scores_and_weights_equal_loops():
    scene = Scene()
    _, comparison = scene.compare()
    for image in range(4):
        both = [
            [(x - min(losses)) / (max(losses) - min(losses)) for x in losses]
            for losses in (comparison.mask_loss[image].tolist(), comparison.appearance_loss[image].tolist())
        ]
        score = [(a + b) / 2 for a, b in zip(*both, strict=True)]
        again = [(x - min(score)) / (max(score) - min(score)) for x in score]
        odds = [math.exp(-20 * x) for x in again]
        assert comparison.score[image].tolist() == pytest.approx(score, abs=1e-5)
        assert comparison.weights[image].tolist() == pytest.approx([x / sum(odds) for x in odds], rel=1e-3)


def test_the_right_camera_scores_best():
    """Once the network shows the birds' colors, the camera nearest to the true one explains the picture best."""
    scene = Scene()
    batch, template = scene.batch, bird()
    camera = batch["camera"]
    turned = Camera(
        camera.scale[:, None].expand(4, 2),
        camera.translation[:, None].expand(4, 2, 2),
        torch.stack((camera.rotation, camera.rotation.roll(1, 0)), 1),
    )
    v = torch.linspace(0, 1, 16)[:, None].expand(16, 32)  # v runs from front to rear
    texture = torch.stack((0.5 + 0 * v, v, 0.5 + 0 * v)).expand(4, 3, 16, 32)
    _, comparison = scene.compare()
    shape = comparison.shape._replace(vertices=template.vertices.expand(4, 642, 3), texture=texture)
    mesh = scene.network.mesh(shape)
    found = scene.objective(shape, mesh, turned, batch["image"], batch["mask"])
    assert (found.score.argmin(-1) == 0).all()
    assert found.covered[:, 0].float().mean() == pytest.approx(batch["mask"].float().mean().item(), abs=0.01)


def test_paper_terms_are_other_terms():
    released, paper = Scene(), Scene(paper_terms=True)
    first, second = (s.objective.terms(s.compare()[1]) for s in (released, paper))
    assert torch.equal(first["mask"], second["mask"])
    vertices = paper.compare()[1].shape.vertices[0].tolist()
    around = [set() for _ in vertices]
    for face in bird().faces.tolist():
        for vertex in face:
            around[vertex] |= set(face) - {vertex}
    total = 0.0
    for own, others in zip(vertices, around, strict=True):
        mean = [sum(vertices[j][k] for j in others) / len(others) for k in range(3)]
        total += sum((own[k] - mean[k]) ** 2 for k in range(3)) / len(vertices)
    assert second["laplacian"].item() == pytest.approx(0.5 * total, rel=0.05)
    assert second["deformation"] < first["deformation"]
