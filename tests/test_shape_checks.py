"""Tests see calls whose tensors do not have the shapes of the signature, whatever the function makes of them."""

import pytest
import torch
from jaxtyping import TypeCheckError

import kpose.geometry.camera
from kpose.geometry import geodesic_distance, mask_to_box, project
from kpose.structures import Camera


def test_arguments_are_checked():
    with pytest.raises(TypeCheckError, match="mask_to_box"):
        mask_to_box(torch.ones(2, 3))
    with pytest.raises(TypeCheckError, match="geodesic_distance"):
        geodesic_distance(torch.eye(3), torch.eye(3).expand(2, 3, 3))


def test_results_are_checked(monkeypatch):
    monkeypatch.setattr(kpose.geometry.camera, "to_image_frame", lambda points, camera: torch.zeros(5))
    with pytest.raises(TypeCheckError, match="project"):
        project(torch.zeros(4, 3), Camera(torch.ones(()), torch.zeros(2), torch.eye(3)))
