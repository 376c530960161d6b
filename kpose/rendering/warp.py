"""The renderer interface on NVIDIA Warp: a mask and a z-buffer from compiled kernels, for CPU and CUDA.

Plain torch lists the pairs of a face and a pixel, and keeps them for the gradient; these kernels find them again
backwards, and keep the mask alone. Warp is an extra that is looked for only when a `WarpRenderer` is made.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.rendering.blend import blur_radius
from kpose.rendering.rasterize import NOT_FINITE, ZBuffer
from kpose.rendering.renderer import image_size, to_image
from kpose.rendering.scene import Part, Scene
from kpose.rendering.soft import CompositeRenderer
from kpose.structures import Camera, Mesh, Rendering

__all__ = ["WarpRenderer", "fast_renderer"]

_CHUNKS_PER_THREAD = 2
"""A thread that is done early takes another chunk of the images."""


class WarpRenderer(CompositeRenderer):
    """Renderer that gives what `kpose.rendering.CompositeRenderer` gives, by compiled kernels.

    The mask stores one float a pixel for its gradient, whatever the blur, and is not computed again backwards. The
    images of a batch are shared out among as many threads as torch uses. The first call compiles the kernels, which
    takes some seconds; they are kept in Warp's cache for later processes.

    Vertices or cameras in double precision, and devices that Warp cannot use, are left to `CompositeRenderer`.

    Args:
        sigma: Blur of the outline in squared normalized units.
        cull_back_faces: Leave out the faces seen from behind; see `CompositeRenderer`.
        max_pairs: Bound of memory for all but the mask; see `CompositeRenderer`.

    Raises:
        ImportError: If Warp cannot be imported.

    Example:
        Where Warp is installed; `fast_renderer` takes it there by itself::

            WarpRenderer(sigma=1e-4).silhouette(mesh, camera, 64)  # (64, 64)
    """

    def __init__(self, sigma: float = 1e-5, *, cull_back_faces: bool = False, max_pairs: int = 1 << 22) -> None:
        super().__init__(sigma, cull_back_faces=cull_back_faces, max_pairs=max_pairs)
        try:
            _kernels()
        except ImportError as error:
            raise ImportError(
                f"WarpRenderer needs NVIDIA Warp; it cannot be imported ({error}). "
                'Install it: pip install "kpose[warp]", or let fast_renderer() choose.'
            ) from error

    def render(self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]) -> Rendering:
        """Draw meshes; see `Renderer.render`."""
        if not _can_draw(mesh, camera):
            return super().render(mesh, camera, size)
        cull = self.cull_back_faces
        scene = Scene(mesh, camera, size, radius=0.0, cull=cull, max_pairs=self.max_pairs)
        mask = _cover(scene.vertices, mesh.faces, *scene.size, self.sigma, cull).flatten()

        def draw(part: Part) -> tuple[Tensor, ...]:
            own = scene.vertices[part.first : part.first + part.boxes.num_meshes].detach()
            return scene.surface(part, _z_buffer(own, mesh.faces, scene.size, cull))

        depth, face, weights, *rgb = scene.draw(draw)
        return scene.rendering(mask, depth, face, weights, *(mask * color for color in rgb))

    def silhouette(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Draw the mask alone; see `Renderer.silhouette`."""
        if not _can_draw(mesh, camera):
            return super().silhouette(mesh, camera, size)
        height, width = image_size(size)
        vertices, batch = to_image(mesh, camera)
        mask: Tensor = _cover(vertices, mesh.faces, height, width, self.sigma, self.cull_back_faces)
        return mask.view(*batch, height, width)


def fast_renderer(
    sigma: float = 1e-5, *, cull_back_faces: bool = False, max_pairs: int = 1 << 22
) -> CompositeRenderer:
    """Make the fastest renderer of a blurred mask that is installed; all of them give the same images.

    Args:
        sigma: Blur of the outline in squared normalized units.
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.
        max_pairs: Bound of memory: see `CompositeRenderer`.

    Returns:
        A `kpose.rendering.warp.WarpRenderer` where Warp is installed, else a `CompositeRenderer`. If Warp is
        installed and cannot be imported, a warning says so, once.

    Example:
        >>> import torch
        >>> mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]))
        >>> camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
        >>> fast_renderer(sigma=0.1).silhouette(mesh, camera, 2)
        tensor([[0.9241, 0.5000],
                [0.5000, 0.0067]])
    """
    maker = WarpRenderer if _is_usable() else CompositeRenderer
    return maker(sigma, cull_back_faces=cull_back_faces, max_pairs=max_pairs)


@cache
def _is_usable() -> bool:
    if find_spec("warp") is None:
        return False
    try:
        _is_ready("cpu")
    except Exception as error:  # a broken driver or library raises what it likes
        warnings.warn(
            f"NVIDIA Warp is installed but cannot be used ({error}): rendering falls back to plain torch, which "
            "is slower. Repair or uninstall warp-lang.",
            stacklevel=3,
        )
        return False
    return True


@cache
def _kernels() -> ModuleType:
    """Import and start Warp."""
    kernels = import_module("kpose.rendering.warp_kernels")
    import warp as wp

    wp.init()
    return kernels


_loading = Lock()


@cache
def _is_ready(device: str) -> bool:
    """Compile or load the kernels for a device of Warp, before several threads launch them."""
    kernels = _kernels()
    import warp as wp

    with _loading:
        wp.load_module(kernels, device=device)
    return True


def _can_draw(mesh: Mesh, camera: Camera) -> bool:
    """Whether Warp has the device, and single precision is enough."""
    import warp as wp

    if torch.float64 in (mesh.vertices.dtype, *(part.dtype for part in camera)):
        return False
    device = mesh.vertices.device
    return device.type == "cpu" or (device.type == "cuda" and bool(wp.is_cuda_available()))


def _launch(
    name: str, vertices: Tensor, faces: Tensor, settings: tuple[Any, ...], images: list[Tensor], *flag: Tensor
) -> None:
    """Launch a kernel for all images and faces; on a CPU, a chunk of the images at a time on every thread.

    Launches let go of the interpreter's lock while they run.
    """
    import warp as wp

    if not len(vertices) or not len(faces):
        return
    kernel = getattr(_kernels(), name)
    device = wp.device_from_torch(vertices.device)
    _is_ready(device.alias)
    stream = wp.stream_from_torch(vertices.device) if device.is_cuda else None
    corners = wp.from_torch(faces.to(torch.int32).contiguous())
    flags = [wp.from_torch(value) for value in flag]

    def run(start: int, stop: int) -> None:
        own, *arrays = (
            wp.from_torch(value[start:stop], dtype=wp.vec3 if value.dim() == 3 else None, requires_grad=False)
            for value in (vertices, *images)
        )
        inputs = [own, corners, *settings, *arrays, *flags]
        wp.launch(kernel, (stop - start, len(faces)), inputs, device=device, stream=stream)

    threads = 1 if device.is_cuda else min(torch.get_num_threads(), len(vertices))
    if threads == 1:
        run(0, len(vertices))
        return
    length = -(-len(vertices) // (threads * _CHUNKS_PER_THREAD))
    starts = range(0, len(vertices), length)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, starts, (min(start + length, len(vertices)) for start in starts)))


def _is_parallel(vertices: Tensor, num_pixels: int) -> bool:
    """Whether faces may be drawn in any order; images of less than a block of eight pixels are treated so."""
    return vertices.is_cuda or num_pixels < 8


@torch.library.custom_op("kpose::cover", mutates_args=())
def _cover(vertices: Tensor, faces: Tensor, height: int, width: int, sigma: float, cull: bool) -> Tensor:
    """Mask ``(B, h w)`` of vertices in the image frame; see `kpose.rendering.blend.cover`."""
    vertices = vertices.detach().contiguous()
    total = vertices.new_zeros(len(vertices), height * width)
    broken = torch.zeros(1, dtype=torch.int32, device=vertices.device)
    parallel = _is_parallel(vertices, height * width)
    settings = (sigma, blur_radius(sigma), height, width, int(cull), int(parallel))
    _launch("cover", vertices, faces, settings, [total], broken)
    problem = broken.item()
    if problem == 1:
        raise ValueError(NOT_FINITE)
    if problem == 2:
        raise ValueError(
            f"Rendering needs faces that name the mesh's {vertices.shape[1]} vertices; got others. Check them."
        )
    return -torch.expm1(-total) if parallel else total.div_(total + 1)


@torch.library.custom_op("kpose::cover_gradient", mutates_args=())
def _cover_gradient(
    vertices: Tensor, faces: Tensor, weight: Tensor, height: int, width: int, sigma: float, cull: bool
) -> Tensor:
    """Gradient of the vertices from that of the sums over faces of `kpose.rendering.blend.cover`."""
    vertices = vertices.detach().contiguous()
    gradient = torch.zeros_like(vertices)
    parallel = _is_parallel(vertices, height * width)
    settings = (sigma, blur_radius(sigma), height, width, int(cull), int(parallel))
    _launch("cover_gradient", vertices, faces, settings, [weight.contiguous(), gradient])
    return gradient


@_cover.register_fake
def _(vertices: Tensor, faces: Tensor, height: int, width: int, sigma: float, cull: bool) -> Tensor:
    return vertices.new_empty(len(vertices), height * width)


@_cover_gradient.register_fake
def _(vertices: Tensor, faces: Tensor, weight: Tensor, height: int, width: int, sigma: float, cull: bool) -> Tensor:
    return torch.empty_like(vertices)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401 - attributes are set freely
    vertices, faces, *ctx.settings = inputs
    ctx.save_for_backward(vertices, faces, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
    vertices, faces, mask = ctx.saved_tensors
    return _cover_gradient(vertices, faces, grad * (1 - mask), *ctx.settings), *(None,) * 5


_cover.register_autograd(_backward, setup_context=_remember)


def _z_buffer(vertices: Tensor, faces: Tensor, size: tuple[int, int], cull: bool) -> ZBuffer:
    """Find the nearest face at every pixel; see `kpose.rendering.rasterize.z_buffer`."""
    vertices = vertices.contiguous()
    num_images, nothing = len(vertices), torch.iinfo(torch.int32).max
    depth = vertices.new_full((num_images, size[0] * size[1]), torch.inf)
    winner = torch.full_like(depth, nothing, dtype=torch.int32)
    for stage in (1, 2) if vertices.is_cuda else (0,):
        _launch("nearest", vertices, faces, (*size, int(cull), stage), [depth, winner])
    first = len(faces) * torch.arange(num_images, device=depth.device).unsqueeze(1)
    face = torch.where(winner < nothing, winner + first, -1)
    return ZBuffer(face.flatten(), depth.flatten())
