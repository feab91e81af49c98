#!/usr/bin/env bash
# Test a checkpoint on several GPUs of one machine, or of several machines.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
#
# GPUS and the variables NNODES, NODE_RANK, MASTER_ADDR, PORT, PYTHON are those of
# dist_train.sh.

source "$(dirname -- "${BASH_SOURCE[0]}")/launch.sh"
[[ $# -ge 3 ]] || usage

launch_torchrun "$3" "$TOOLS/test.py" "$1" "$2" --launcher pytorch "${@:4}"
