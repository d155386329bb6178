#!/usr/bin/env bash
# train.sh FOLDER GPUS NODES CPUS < SETTINGS: `genotok train` on all that a job has.
# One process where that is one GPU or none; else torchrun with a process a GPU, or a process a node without any.
set -euo pipefail
folder=$1 gpus=$2 nodes=$3 cpus=$4
options=(-o "$folder" --resume --restart-if-changed)
trap : TERM # goes to the run, which writes a checkpoint; this shell waits for it

if (( gpus % nodes )); then
  echo "train: $gpus GPUs cannot be shared evenly by $nodes nodes; ask for the same number on each" >&2
  exit 2
fi
processes=$(( gpus ? gpus / nodes : 1 )) # on each node
if (( nodes * processes == 1 )); then
  genotok train - "${options[@]}"
  exit
fi

mkdir -p "$folder"
settings=$folder/settings.json # each process reads them
cat > "$settings"
work=(-m genotok train "$settings" "${options[@]}")
if (( nodes == 1 )); then
  torchrun --standalone --nproc-per-node "$processes" "${work[@]}"
  exit
fi

# The first node, where this runs, is where all processes meet.
port=$(( 20000 + SLURM_JOB_ID % 40000 ))
shared=(--nodes "$nodes" --ntasks "$nodes" --ntasks-per-node 1 --cpus-per-task $(( cpus * processes )))
if (( gpus )); then shared+=(--gpus "$gpus"); fi
srun --kill-on-bad-exit=1 "${shared[@]}" bash -c 'trap : TERM
  torchrun --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --master-addr "$SLURM_LAUNCH_NODE_IPADDR" "$@"' \
  torchrun --master-port "$port" --nproc-per-node "$processes" "${work[@]}"
