#!/bin/bash
# Trains on 2 machines of 8 GPUs, fully sharded, and goes on after failures and time limits:
#
#     sbatch examples/slurm_fsdp.sh configs/mask_rcnn/piip_h6b_1024_512_1x_ms.py
#
# When a process fails, torchrun starts all again, and they go on from the last checkpoint. When a
# machine fails, --no-kill (of sbatch and of srun) keeps the job alive, and the others go on. The
# first machine must last: this script and the store where torchrun's agents meet live there, and its
# loss ends all. Five minutes before the time limit the run is told to save, and the job is queued
# again.
#SBATCH --job-name=piip
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -euo pipefail

config=${1:?usage: sbatch examples/slurm_fsdp.sh CONFIG [overrides]}
shift

# The folder must be on a file system that all machines share.
output=${OUTPUT_DIR:-output/$(basename "$config" .py)}
first_machine=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

save_and_queue_again() {
    # torchrun passes SIGTERM on; the run finishes its iteration and saves.
    scancel --signal=TERM "$SLURM_JOB_ID.0"
    wait "$training" || true
    scontrol requeue "$SLURM_JOB_ID"
}
trap save_and_queue_again USR1

# For PyTorch's own threads; data workers are processes.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

# Otherwise restarted processes find the addresses of ended ones, and wait for them.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

# srun does not inherit --cpus-per-task since Slurm 22.05.
srun --no-kill --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun \
    --nnodes="1:$SLURM_JOB_NUM_NODES" \
    --nproc-per-node=8 \
    --max-restarts=3 \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first_machine:29400" \
    train_net.py \
    --config-file "$config" \
    --resume \
    train.preset=fsdp \
    "train.output_dir=$output" \
    "$@" &
training=$!
wait "$training"
