#!/usr/bin/env bash
# Test a checkpoint under Slurm.
#
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]
#
# The variables GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS, MASTER_PORT, PYTHON are
# those of slurm_train.sh.

source "$(dirname -- "${BASH_SOURCE[0]}")/launch.sh"
[[ $# -ge 4 ]] || usage

launch_srun "$1" "$2" "$TOOLS/test.py" "$3" "$4" --launcher=slurm "${@:5}"
