#!/usr/bin/env bash
# Train under Slurm.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
#
#   GPUS           number of processes in all (default: 8)
#   GPUS_PER_NODE  GPUS or 8, whichever is less, by default; 0 asks Slurm for no GPU
#   CPUS_PER_TASK  CPU cores of each process (default: 5)
#   SRUN_ARGS      more arguments of srun, separated by blanks
#   MASTER_PORT    port of the first process (default: a random one)
#   PYTHON         the interpreter (default: python)

source "$(dirname -- "${BASH_SOURCE[0]}")/launch.sh"
[[ $# -ge 4 ]] || usage
[[ $4 != -* ]] || usage "WORK_DIR is missing: the fourth argument is '$4'."

launch_srun "$1" "$2" \
    "$TOOLS/train.py" "$3" --work-dir="$4" --launcher=slurm "${@:5}"
