"""The processes and devices of a run, as Lightning starts them, and the trainers that work on them."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    ClusterEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies import DDPStrategy, Strategy

from kpose._distributed import check_tasks
from kpose._messages import one_line
from kpose._precision import has_bfloat16
from kpose.pipeline.interruption import Interruption
from kpose.pipeline.settings import Precision, TrainerSettings

__all__ = ["Engine", "SideBySide", "fast_precision"]


class Engine:
    """What a pipeline computes with: processes, devices, trainers, and the answer to signals.

    Args:
        settings: Devices, and how they work together.

    Raises:
        ValueError: If there are no such devices, or SLURM has started other processes than the settings ask for.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self.settings = settings
        self.interruption = Interruption(settings.seconds)
        try:
            self._fabric = Fabric(
                accelerator=settings.accelerator,
                devices=settings.devices,
                num_nodes=settings.num_nodes,
                plugins=[plugin for plugin in settings.plugins or () if isinstance(plugin, ClusterEnvironment)],
            )
        except RuntimeError as error:  # Fabric's refusals
            raise ValueError(one_line(error)) from error
        check_tasks("kpose pipeline", self.num_processes, "--trainer.devices")

    @property
    def num_processes(self) -> int:
        """Processes of the run, one for each device of each node."""
        return self._fabric.world_size

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._fabric.device

    @cached_property
    def precision(self) -> Precision:
        """The precision of features that are kept and of the training of heads."""
        return fast_precision(self.device) if self.settings.precision == "auto" else self.settings.precision

    def launch(self) -> None:
        """Start the processes, unless they run."""
        self._fabric.launch()

    def share(self, batch_size: int) -> int:
        """Return how many images of a batch are those of one process; ValueError if that is no whole number."""
        if batch_size % self.num_processes:
            raise ValueError(
                f"Pipeline needs batches that {self.num_processes} processes can share evenly; got a batch_size of "
                f"{batch_size}. Give a multiple of {self.num_processes}."
            )
        return batch_size // self.num_processes

    def trainer(
        self,
        folder: Path,
        *,
        callbacks: Sequence[Callback] = (),
        precision: Precision = "32-true",
        strategy: str | Strategy = "auto",
        **options: Any,  # noqa: ANN401
    ) -> Trainer:
        """Build a trainer that loads nothing but what it is given.

        Args:
            folder: Of the trainer's own; Lightning looks there for the state of requeued jobs, which is none.
            callbacks: Its callbacks.
            precision: Lightning's name of the precision.
            strategy: How several processes work together unless the settings say.
            options: Others of Lightning's trainer.
        """
        settings, single = self.settings, isinstance(strategy, SideBySide)
        if self.num_processes == 1 or (settings.strategy != "auto" and not single):
            strategy = settings.strategy
        return Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=strategy,
            plugins=self._plugins(),
            sync_batchnorm=settings.sync_batchnorm,
            precision=precision,
            default_root_dir=folder,
            use_distributed_sampler=not single,
            callbacks=list(callbacks),
            enable_model_summary=False,
            **options,
        )

    def _plugins(self) -> list[Any]:
        """Leave requeueing to `Interruption`: Lightning would load what one trainer leaves into all others."""
        plugins = list(self.settings.plugins or ())
        given = [plugin for plugin in plugins if isinstance(plugin, ClusterEnvironment)]
        if not given and SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            given = [SLURMEnvironment()]
            plugins += given
        for environment in given:
            if isinstance(environment, SLURMEnvironment):
                environment.auto_requeue = False
        return plugins


class SideBySide(DDPStrategy):
    """Processes that work on a module without parameters, which torch would not wrap."""

    def configure_ddp(self) -> None:
        """Leave the module as it is."""


def fast_precision(device: torch.device) -> Precision:
    """Return the precision that a network trains fastest in: bfloat16 where the device has instructions for it.

    Args:
        device: Where the network is trained.

    Example:
        >>> fast_precision(torch.device("cpu")) in ("32-true", "bf16-mixed")
        True
    """
    return "bf16-mixed" if has_bfloat16(device) else "32-true"
