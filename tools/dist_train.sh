#!/usr/bin/env bash
# Train on several GPUs of one machine, or of several machines.
#
#   tools/dist_train.sh CONFIG GPUS [arguments of train.py]
#
# GPUS is the number of processes on this machine. Several machines: start the same
# command on each of them with these variables set.
#   NNODES       number of machines (default: 1)
#   NODE_RANK    number of this machine, from 0 (default: 0)
#   MASTER_ADDR  address of machine 0
#   PORT         its free port (default: 29500; on one machine: any free port)
#   PYTHON       the interpreter (default: python)

source "$(dirname -- "${BASH_SOURCE[0]}")/launch.sh"
[[ $# -ge 2 ]] || usage

launch_torchrun "$2" "$TOOLS/train.py" "$1" --launcher pytorch "${@:3}"
