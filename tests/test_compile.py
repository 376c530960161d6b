"""Heads and the solver are one graph each: torch.compile finds nothing that breaks it."""

import json
import subprocess
import sys

CODE = """
import json, warnings, torch
from functools import partial
from kpose.heads import GramSchmidtHead, KeypointHead, PaperKeypointHead, ProcrustesHead, QuaternionHead
from kpose.losses import PositionLoss
from kpose.pnp import solve_pnp
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird

small = {"num_keypoints": 8, "width": 8}
heads = {
    "quaternion": QuaternionHead, "gram-schmidt": GramSchmidtHead, "procrustes": ProcrustesHead,
    "keypoints": partial(KeypointHead, **small), "position": partial(KeypointHead, loss=PositionLoss(), **small),
    "paper": partial(PaperKeypointHead, **small),
}
features = Features((torch.rand(2, 8, 8, 8), torch.rand(2, 16, 4, 4)))
results = {}
def differ(function, *inputs):
    torch.compiler.reset()
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    results_ = zip(function(*inputs), compiled(*inputs), strict=True)
    return max(float((one - other).abs().max()) for one, other in results_)
for name, head in heads.items():
    head = head(FeatureSpec((8, 16), (8, 16)), bird()).eval()
    if hasattr(head, "solver"):
        results[name] = differ(lambda seen: (lambda found: (found.heatmaps, found.keypoints))(head(seen)), features)
    else:
        results[name] = differ(lambda seen: head(seen).camera, features)
points = torch.rand(3, 12, 3, requires_grad=True)
weights = torch.rand(3, 12)
results["solver"] = differ(lambda *inputs: solve_pnp(*inputs).camera, points[..., :2] * 0.7, points, weights)
print(json.dumps(results))
"""


def test_heads_and_the_solver_are_one_graph_each():
    # In a process of its own: torch.compile does not look into the checks of shapes that tests add to kpose.
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    differences = json.loads(result.stdout.splitlines()[-1])
    assert len(differences) == 7
    assert max(differences.values()) < 1e-5, differences
