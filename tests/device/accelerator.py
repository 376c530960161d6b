"""The device that is not there as Lightning's trainers know devices."""

import lightning_fabric
import pytorch_lightning
import torch
from lightning_fabric.accelerators import ACCELERATOR_REGISTRY
from lightning_fabric.connector import _Connector
from pytorch_lightning.accelerators import Accelerator, AcceleratorRegistry
from pytorch_lightning.trainer.connectors.accelerator_connector import _AcceleratorConnector


class PretendAccelerator(Accelerator):
    """One device."""

    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    def get_device_stats(self, device):
        return {}

    @staticmethod
    def parse_devices(devices):
        return 1

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device("pretend", 0)]

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return "pretend"


for registry in (AcceleratorRegistry, ACCELERATOR_REGISTRY):
    if "pretend" not in registry:
        registry.register("pretend", PretendAccelerator)


def use(monkeypatch):
    """Let trainers compute there: Lightning takes the CPU where it does not know the accelerator.

    Tensors of the device cannot be made in inference mode, so that gradients are switched off in its place.
    """
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    for connector, strategies in (
        (_Connector, lightning_fabric.strategies),
        (_AcceleratorConnector, pytorch_lightning.strategies),
    ):
        strategy = strategies.SingleDeviceStrategy
        monkeypatch.setattr(
            connector, "_choose_strategy", lambda self, s=strategy: s(device=torch.device("pretend", 0))
        )
