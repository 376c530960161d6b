import pytest
import torch

from kpose.geometry import project, random_rotation
from kpose.metrics import KeypointTransfer
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh
from kpose.templates import bird

PARTS = torch.tensor([5, 100, 250, 400, 600])


def cameras(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotation((count,), generator=generator)
    return Camera(torch.full((count,), 0.8), torch.rand(count, 2, generator=generator) * 0.2, rotation)


def birds(count):
    return Mesh(bird().vertices.expand(count, -1, -1), bird().faces)


def annotated(count, seed=0):
    """Return cameras and the parts that they see, which are vertices of the template."""
    camera = cameras(count, seed)
    seen = vertex_visibility(birds(count), camera)[:, PARTS]
    return camera, project(birds(count).vertices, camera)[:, PARTS], seen


def score(camera, parts, seen, **settings):
    metric = KeypointTransfer(**{"num_pairs": 500, **settings})
    count = len(parts)
    metric.update(camera, birds(count), parts, seen, torch.full((count,), 1.6), torch.arange(count))
    return metric.compute().item()


def test_true_cameras_carry_every_keypoint():
    assert score(*annotated(12), threshold=0.02) == 1


def test_wrong_cameras_carry_few():
    _, parts, seen = annotated(12)
    assert score(cameras(12, seed=3), parts, seen) < 0.4


def test_it_is_the_plain_definition():
    true, parts, seen = annotated(6)
    camera = true._replace(translation=true.translation + 0.03 * torch.arange(6)[:, None])
    mesh = birds(6)
    placed, visible = project(mesh.vertices, camera), vertex_visibility(mesh, camera)
    correct, total = torch.zeros(6, 6), torch.zeros(6, 6)
    for i in range(6):
        for j in range(6):
            for part in (seen[i] & seen[j]).nonzero()[:, 0].tolist():
                distance = (placed[i] - parts[i, part]).norm(dim=-1)
                vertex = torch.where(visible[i], distance, torch.inf).argmin()
                correct[i, j] += (placed[j, vertex] - parts[j, part]).norm() <= 0.16
                total[i, j] += 1
    off = ~torch.eye(6, dtype=torch.bool)
    expected = (correct[off].sum() / total[off].sum()).item()
    assert 0.2 < expected < 0.95
    assert score(camera, parts, seen, num_pairs=40_000) == pytest.approx(expected, abs=0.01)


def test_order_and_batches_do_not_matter():
    camera, parts, seen = annotated(9)
    parts = parts + 0.3 * torch.rand(parts.shape, generator=torch.Generator().manual_seed(2))
    metric = KeypointTransfer(num_pairs=300)
    for rows in torch.randperm(9, generator=torch.Generator().manual_seed(1)).split(4):
        side = torch.full((len(rows),), 1.6)
        metric.update(camera.at(rows), birds(len(rows)), parts[rows], seen[rows], side, rows)
    assert metric.compute().item() == score(camera, parts, seen, num_pairs=300)


@pytest.mark.parametrize("failed", ["one", "all"])
def test_a_camera_that_is_not_a_number_misses(failed):
    camera, parts, seen = annotated(4)
    rows = slice(0, 1) if failed == "one" else slice(None)
    camera.rotation[rows] = torch.nan
    found = score(camera, parts, torch.ones_like(seen), threshold=10.0, num_pairs=5000)
    assert found == pytest.approx(0.5 if failed == "one" else 0.0, abs=0.03)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_pairs_there_is_no_score():
    camera, parts, seen = annotated(1)
    assert torch.tensor(score(camera, parts, seen)).isnan()
    assert KeypointTransfer().compute().isnan()
    with pytest.raises(ValueError, match="positive threshold"):
        KeypointTransfer(threshold=0.0)
