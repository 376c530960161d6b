import torch

from kpose.geometry import axis_angle_to_matrix, box_to_crop, geodesic_distance
from kpose.losses import chordal_distance
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.reconstruction._reranking import average_cameras, rerank_cameras


def test_the_average_camera_lies_between_choice_and_prediction():
    made = CameraTable(torch.arange(3), grid=ViewpointGrid(8, 5))
    made.set_reference_crop(torch.arange(3), box_to_crop(torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(3, 4)))
    scores = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))
    made.set_score(torch.arange(3), scores)
    best = made.best().rotation
    turned = best @ axis_angle_to_matrix(torch.tensor([0.0, 0.6, 0.0]))
    for weight, angle in ((0.0, 0.0), (0.5, 0.3), (1.0, 0.6)):
        average = average_cameras(made, turned, weight=weight)
        assert average.num_cameras == 1
        assert not average.scored.any()
        found = geodesic_distance(average.rotation[:, 0], best)
        torch.testing.assert_close(found, torch.full((3,), angle), atol=2e-3, rtol=0)
    rerank_cameras(made, turned, weight=0.5, silhouettes=False)
    expected = (scores + chordal_distance(made.rotation, turned[:, None].expand_as(made.rotation))) / 2
    torch.testing.assert_close(made.score, expected)
    average.set_reference_crop(torch.arange(3), box_to_crop(torch.tensor([8.0, 8.0, 24.0, 24.0]).expand(3, 4)))
    made.add_best(average)
    torch.testing.assert_close(made.best().rotation, turned)
