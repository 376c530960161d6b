"""Settings of all tests: no network, one seed, and data sets whose tests are skipped with a reason."""

import importlib
import os
import signal
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule

# Set before any library is imported: a test that would download, open a window or log in fails instead.
os.environ["HF_HUB_OFFLINE"] = "1"
# Models that a contributor has fetched would find other birds than the tests expect.
os.environ["HF_HUB_CACHE"] = str(Path(__file__).with_name("no_models"))
os.environ["WANDB_MODE"] = "offline"
os.environ["MPLBACKEND"] = "Agg"


# Shells let background jobs ignore Ctrl-C, and the commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Import what kpose imports, in each process that runs tests.

    While the import hook of jaxtyping runs a module of kpose, it looks for all byte code in a cache of its own:
    what kpose is the first to import would be compiled from source.
    """
    if config.getoption("dist", "no") == "no":
        for name in ("kornia", "pycocotools.mask", "pytorch_lightning.cli", "roma", "torchmetrics", "trimesh"):
            importlib.import_module(name)


def pytest_ignore_collect(collection_path, config):
    """Leave tests/device to tests/test_device.py, which gives it a process of its own."""
    device = Path(__file__).with_name("device")
    named = any(Path(config.invocation_params.dir, arg).is_relative_to(device) for arg in config.args)
    return True if collection_path == device and not named else None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Collect no doctests of test modules: the one that ignores missing imports hides a module's own error."""
    collectors = yield
    return [found for found in collectors if not isinstance(found, DoctestModule)]


@pytest.fixture(autouse=True)
def seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Folder of the rendered birds that tests share."""
    return tmp_path_factory.mktemp("birds")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set; set it to {what} to run this test")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable} needs {what}; got {value}, which is no folder. Correct or unset it.")
    return path


@pytest.fixture(scope="session")
def cub_root() -> Path:
    """Folder in the layout of CUB-200-2011."""
    return _folder("KPOSE_CUB_ROOT", "a folder in the layout of CUB-200-2011")


@pytest.fixture(scope="session")
def davis_root() -> Path:
    """Folder in the layout of DAVIS 2017."""
    return _folder("KPOSE_DAVIS_ROOT", "a folder in the layout of DAVIS 2017")


@pytest.fixture(scope="session")
def backbone_folder() -> Path:
    """Folder of a pretrained ResNet-50 as transformers saves it."""
    return _folder("KPOSE_BACKBONE", "a folder with a ResNet-50 saved by transformers")
