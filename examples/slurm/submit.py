"""Submit a pipeline by submitit: cameras, every head by itself, and what combines them.

pip install submitit
python examples/slurm/submit.py logs --config examples/configs/pipeline/cub-improved.yaml --out /shared/cub
"""

import sys
from collections.abc import Sequence

import submitit

from kpose.cli.pipeline import main, parse_pipeline


def submit(executor: submitit.Executor, args: Sequence[str]) -> list[submitit.Job[int]]:
    """Submit all parts of a run; each waits for those that it is made from."""
    cameras = executor.submit(main, [*args, "--only=cameras"])
    executor.update_parameters(slurm_additional_parameters={"dependency": f"afterok:{cameras.job_id}"})
    names = sorted(parse_pipeline(args).heads)
    heads = executor.map_array(main, [[*args, f"--only=heads/{name}"] for name in names])
    after = ":".join(job.job_id for job in heads)
    executor.update_parameters(slurm_additional_parameters={"dependency": f"afterok:{after}"})
    return [cameras, *heads, executor.submit(main, list(args))]


if __name__ == "__main__":
    cluster = submitit.AutoExecutor(folder=sys.argv[1])
    cluster.update_parameters(timeout_min=720, gpus_per_node=1, cpus_per_task=8, tasks_per_node=1)
    for job in submit(cluster, sys.argv[2:]):
        print(job.job_id)
