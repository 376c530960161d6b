from functools import partial

import pytest
import torch
from kornia.losses import binary_focal_loss_with_logits

from kpose.backbones import TinyBackbone
from kpose.heads import KeypointHead, KeypointSolver, LabelBorder, MaskBorder, PaperKeypointHead, SelfSupervision
from kpose.heads.paper import _BorderNetwork
from kpose.losses import HeatmapLoss, PositionLoss
from kpose.network import PoseNetwork
from kpose.structures import Camera, Features, FeatureSpec
from kpose.templates import bird
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16, 32), (4, 8, 16))


def features(size=2, cells=16):
    return Features(tuple(torch.randn(size, c, cells // 2**i, cells // 2**i) for i, c in enumerate(SPEC.channels)))


def outline(mask, size):
    """Draw the border of masks, which reads nothing else."""
    block = SelfSupervision(bird(), torch.tensor([0, 1]))
    return MaskBorder().draw(block, bird().vertices.expand(len(mask), -1, -1), {"mask": mask}, size)


def draw_mask(mask, size):
    return outline(torch.tensor(mask)[None].bool(), size)[0]


def test_every_stage_has_a_border_at_the_finest_resolution():
    logits, last = _BorderNetwork(SPEC, width=4)(features())
    assert [tuple(x.shape) for x in logits] == [(2, 16, 16)] * 3
    assert last.shape == (2, 4, 16, 16)


def test_border_of_a_mask_by_hand():
    mask = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    corners = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
    assert torch.equal(draw_mask(mask, (4, 4)), corners)
    assert torch.equal(draw_mask(mask, (2, 2)), torch.ones(2, 2))


def test_an_object_cut_off_by_the_image_has_no_border_there():
    mask = [[1, 1, 0, 0, 0, 0]] * 3
    assert torch.equal(draw_mask(mask, (3, 6)), torch.tensor([[0.0, 1, 1, 0, 0, 0]] * 3))
    assert torch.equal(draw_mask(mask, (1, 2)), torch.tensor([[1.0, 0.0]]))
    assert not draw_mask([[1] * 4] * 4, (2, 2)).any()


def test_borders_of_the_label_texture_by_hand():
    # A square of two parts, left and right, that fills the middle half of the image.
    shape = bird()
    block = SelfSupervision(shape, torch.tensor([0, 1]))
    x = [-0.5, 0.0, 0.5]
    vertices = torch.tensor([[a, b, 0.0] for b in (-0.5, 0.5) for a in x])
    block.faces = torch.tensor([[0, 3, 1], [1, 3, 4], [1, 4, 2], [2, 4, 5]])
    block.labels = torch.tensor([0, 0, 1, 1])
    camera = Camera(torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None])
    border = LabelBorder(pixels=2).draw(block, vertices[None], {"camera": camera}, (4, 8))
    expected = torch.tensor(
        [
            [0.0, 0, 1, 1, 1, 1, 0, 0],  # the pixels outside along the upper edge
            [0, 1, 1, 1, 1, 1, 1, 0],
            [0, 1, 1, 1, 1, 1, 1, 0],
            [0, 0, 1, 1, 1, 1, 0, 0],
        ]
    )
    assert torch.equal(border[0], expected)
    inner = LabelBorder(pixels=8).draw(block, vertices[None], {"camera": camera}, (4, 8))[0]
    assert inner[1].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def test_focal_loss_is_that_of_probabilities():
    # kornia takes logits: of probabilities it would take the sigmoid twice.
    logits = torch.tensor([[[2.0, -1.0], [0.5, -3.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    p = torch.where(target > 0, logits.sigmoid(), 1 - logits.sigmoid())
    alpha = torch.where(target > 0, 0.25, 0.75)
    expected = (-alpha * (1 - p) ** 2 * p.log()).mean()
    assert torch.allclose(binary_focal_loss_with_logits(logits, target, reduction="mean"), expected)


def small_head(**settings):
    return PaperKeypointHead(SPEC, bird(), num_keypoints=8, width=8, **settings)


def test_an_untrained_border_network_changes_no_heatmap_and_a_trained_one_does():
    torch.manual_seed(0)
    head, inputs = small_head().eval(), features()
    before = head(inputs).outputs[-1]
    assert torch.equal(before, head.network(inputs)[0][-1])
    torch.nn.init.normal_(head.guide.weight)
    assert not torch.allclose(before, head(inputs).outputs[-1])


def test_the_border_guides_the_heatmaps_through_its_features():
    head = small_head()
    batch, inputs = example_batch(2), features()
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    head.losses(head(inputs), batch)["heatmap"].backward()
    optimizer.step()
    assert head.guide.weight.abs().sum() > 0
    head.zero_grad()
    head.losses(head(inputs), batch)["heatmap"].backward()
    assert all(p.grad.abs().sum() > 0 for p in head.border_network.enter.parameters())


def test_the_border_loss_has_its_weight():
    losses = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        head = small_head(border=LabelBorder(), border_weight=weight).eval()
        inputs = features()
        losses.append(head.losses(head(inputs), example_batch(2))["border"])
    assert losses[1].item() == pytest.approx(losses[0].item() / 4)
    with pytest.raises(ValueError, match="border_weight of at least 0"):
        small_head(border_weight=-1.0)


def test_the_mask_is_asked_for_only_where_it_is_read():
    assert KeypointHead(SPEC, bird()).supervision == {"camera"}
    assert small_head(border=LabelBorder()).supervision == {"camera"}
    assert small_head().supervision == {"camera", "mask"}
    assert PaperKeypointHead.supervision == {"camera"}


def test_the_label_texture_decides_what_is_in_sight():
    head = small_head()
    vertices, camera = head.template_vertices.expand(3, -1, -1), example_batch(3)["camera"]
    block = head.self_supervision
    assert torch.equal(head.visibility(vertices, camera), block.weights(vertices, camera))
    head.label_weights = False
    assert torch.equal(head.visibility(vertices, camera), block.visibility(vertices, camera))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_heads_may_be_of_another_precision_throughout(dtype):
    head = small_head(border=LabelBorder()).to(dtype)
    prediction = head(Features(tuple(part.to(dtype) for part in features().maps)))
    losses = head.losses(prediction, example_batch(2))
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters() if parameter.grad is not None)


def test_half_precision_is_kept_out_of_the_solver():
    head = small_head(border=LabelBorder())
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.losses(head(features()), example_batch(2))
    assert all(loss.isfinite() for loss in losses.values())


def test_a_border_is_learned_after_every_stage():
    torch.manual_seed(0)
    network, inputs = _BorderNetwork(SPEC, width=8), features()
    inside = torch.zeros(2, 64, 64, dtype=torch.bool)
    inside[:, 16:48, 16:48] = True
    target = outline(inside, (16, 16))[:, None].expand(-1, 3, -1, -1)
    optimizer = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        logits = torch.stack(network(inputs)[0], 1)
        binary_focal_loss_with_logits(logits, target, reduction="mean").backward()
        optimizer.step()
    assert ((logits > 0) == target.bool()).float().mean() > 0.95


def rebuilt(**settings):
    """Build a head, describe it in plain values and build it from these."""
    head = partial(PaperKeypointHead, num_keypoints=8, width=8, **settings)
    network = PoseNetwork(TinyBackbone(width=8), head)
    return PoseNetwork.from_recipe(network.recipe(), network.state_dict()).head


def test_defaults_come_back_from_the_recipe():
    head = rebuilt()
    assert type(head.loss) is HeatmapLoss
    assert type(head.border) is MaskBorder


def test_every_part_is_recorded():
    head = rebuilt(
        loss=PositionLoss(divergence_weight=0.2), border=LabelBorder(pixels=2), solver=KeypointSolver(trusted=0.25)
    )
    assert isinstance(head.loss, PositionLoss)
    assert head.loss.divergence_weight == 0.2
    assert isinstance(head.border, LabelBorder)
    assert head.border.pixels == 2
    assert head.solver.trusted == 0.25


def test_parts_can_be_left_out():
    assert rebuilt(confidence_weight=0.0).confidence is None
