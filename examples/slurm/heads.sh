#!/bin/sh
# Cameras first, then every head by a task of an array, each on a device of its own, then what combines them:
#   examples/slurm/heads.sh --config examples/configs/pipeline/cub-improved.yaml --out /shared/cub
set -e
heads="quaternion gram_schmidt svd keypoint"
job() { sbatch --parsable --requeue --signal=USR1@120 --time=12:00:00 --gpus-per-node=1 --cpus-per-task=8 "$@"; }

cameras=$(job --job-name=cameras --wrap "srun kpose pipeline $* --only=cameras")
trained=$(job --job-name=heads --dependency=afterok:"$cameras" --array=1-4 \
    --wrap "srun kpose pipeline $* --only=heads/\$(echo $heads | cut -d' ' -f\$SLURM_ARRAY_TASK_ID)")
job --job-name=report --dependency=afterok:"$trained" --wrap "srun kpose pipeline $*"
