"""Perspective-n-point for weak-perspective cameras: correspondences to camera, robust and differentiable."""

from kpose.pnp.solver import PnPSolution, WeakPerspectivePnP, solve_pnp

__all__ = ["PnPSolution", "WeakPerspectivePnP", "solve_pnp"]
