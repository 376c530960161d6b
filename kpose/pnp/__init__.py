"""Perspective-n-point for weak-perspective cameras: correspondences to camera, robust and differentiable."""

from kpose.pnp.model import RobustKernel
from kpose.pnp.refinement import refine_camera
from kpose.pnp.solver import PnPSolution, solve_pnp

__all__ = ["PnPSolution", "RobustKernel", "refine_camera", "solve_pnp"]
