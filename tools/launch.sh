# Sourced by dist_*.sh and slurm_*.sh: what they share. Not to be run.
# shellcheck shell=bash

set -euo pipefail

TOOLS=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH=$(dirname -- "$TOOLS")${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
PYTHON=${PYTHON:-python}

# The head comment of the calling script is its help.
usage() {
    [[ $# -eq 0 ]] || printf '%s\n\n' "$1" >&2
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

require_count() {
    [[ $2 =~ ^[1-9][0-9]*$ ]] || usage "$1 must be a whole number from 1 up, got '$2'."
}

# The last command of a launcher is an `exec`, so that the signals of the terminal and
# of a scheduler reach torchrun or srun, which pass them on, and not this shell.

# launch_torchrun GPUS SCRIPT [ARGS...]
launch_torchrun() {
    local gpus=$1 nodes=${NNODES:-1} rendezvous
    shift
    require_count GPUS "$gpus"
    if [[ $nodes == 1 && -z ${PORT:-} ]]; then
        # torchrun finds a free port: two jobs on one machine do not clash.
        rendezvous=(--standalone)
    else
        [[ $nodes == 1 || -n ${MASTER_ADDR:-} ]] ||
            usage "NNODES=$nodes needs MASTER_ADDR, the address of node 0."
        rendezvous=(
            --nnodes="$nodes"
            --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}"
            --master_port="${PORT:-29500}"
        )
    fi
    exec "$PYTHON" -m torch.distributed.run \
        "${rendezvous[@]}" --nproc_per_node="$gpus" "$@"
}

# launch_srun PARTITION JOB_NAME SCRIPT [ARGS...]
launch_srun() {
    local partition=$1 job_name=$2 gpus=${GPUS:-8}
    require_count GPUS "$gpus"
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    local srun=(
        srun --partition="$partition" --job-name="$job_name"
        --ntasks="$gpus" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1
    )
    shift 2
    [[ $per_node == 0 ]] || srun+=(--gres=gpu:"$per_node" --ntasks-per-node="$per_node")
    # All tasks inherit the port. MMEngine's fixed default would clash as soon as two
    # jobs share a node; the range stays below Linux' ephemeral ports.
    export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 12000))}
    set -f # SRUN_ARGS is split into words, but `*` in it stays `*`
    # shellcheck disable=SC2206
    srun+=(${SRUN_ARGS:-})
    exec "${srun[@]}" "$PYTHON" -u "$@"
}
