#!/usr/bin/env bash
# Makes or completes a Python environment for mmpospretrain; run again, it ends in seconds.
#
# usage: tools/install.sh [--stack onedl|openmmlab] [--venv DIR] [--extras LIST] [--no-ops]
#
#   --stack   family of OpenMMLab packages; default: the one already there, else onedl
#   --venv    environment to make or complete; default: the active venv or conda
#             environment, else .venv (onedl) or .venv-openmmlab in the project
#   --extras  more extras of setup.cfg, separated by commas: vis,test,dev
#   --no-ops  no compiled mmcv ops: saves the long build, good for pre-training only
#
# Environment variables: PYTHON (for a new environment), MAX_JOBS (compilers at once),
# MMPOSPRETRAIN_CACHE (built wheels and logs; default ~/.cache/mmpospretrain),
# FORCE_CUDA=1 with TORCH_CUDA_ARCH_LIST (ops for GPUs that this machine has not).
set -euo pipefail

readonly TORCH=2.13.0 TORCHVISION=0.28.0 # the pair everything here was tested with
# uv leaves compiling to the first import, which stores nothing where
# PYTHONDONTWRITEBYTECODE is set, as in many containers: then every start takes 25 s, not 12.
export UV_COMPILE_BYTECODE=1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MMPOSPRETRAIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mmpospretrain}
stack='' venv='' extras='' ops=1
py='' scratch='' build=''

say() { printf '==> %s\n' "$*"; }

die() { # MESSAGE [WAY OUT]...
    printf '\nerror: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

cleanup() {
    [[ -z $build ]] || kill -- "-$build" 2>/dev/null || true
    [[ -z $scratch ]] || rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

parse_arguments() {
    while (($#)); do
        case $1 in
            --stack | --venv | --extras)
                (($# > 1)) || die "$1 needs a value" "see tools/install.sh --help"
                printf -v "${1#--}" %s "$2"
                shift 2
                ;;
            --no-ops) ops=0 && shift ;;
            -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
            *) die "unknown argument: $1" "see tools/install.sh --help" ;;
        esac
    done
    case $stack in
        '' | onedl | openmmlab) ;;
        *) die "--stack is onedl or openmmlab, not '$stack'" ;;
    esac
}

recent_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.12 python3.11 python3.10 python3.13; do
        recent_enough "$candidate" && command -v "$candidate" && return
    done
    die "no Python 3.10 or later: ${PYTHON:-python3} is $("${PYTHON:-python3}" -V 2>&1)" \
        "get one: apt-get install python3 python3-venv python3-dev," \
        "or conda create -n mmpospretrain python=3.12 && conda activate mmpospretrain," \
        "or name one: PYTHON=/path/to/python3.12 tools/install.sh"
}

choose_environment() {
    if [[ -z $venv ]]; then
        if [[ -n ${VIRTUAL_ENV:-} ]]; then
            venv=$VIRTUAL_ENV
        elif [[ -n ${CONDA_PREFIX:-} && ${CONDA_DEFAULT_ENV:-base} != base ]]; then
            venv=$CONDA_PREFIX
        elif [[ $stack == openmmlab ]]; then
            venv=$root/.venv-openmmlab
        else
            venv=$root/.venv
        fi
    fi
    venv=$(realpath -m -- "$venv")
    py=$venv/bin/python
    if [[ ! -x $py ]]; then
        [[ -z $(ls -A "$venv" 2>/dev/null) ]] || die "$venv is no Python environment" \
            "name another folder with --venv, or remove this one"
        local base
        base=$(find_python)
        check_disk 12
        say "making $venv with $("$base" -V)"
        "$base" -m venv "$venv" || {
            rm -rf "$venv"
            die "$base cannot make a virtual environment" \
                "on Debian and Ubuntu: apt-get install python3-venv"
        }
    fi
    recent_enough "$py" || die "$venv has $("$py" -V 2>&1); Python 3.10 or later is needed" \
        "make a new environment: tools/install.sh --venv DIR"
}

check_disk() { # GIGABYTES
    local folder=$venv free
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1000000))
    ((free >= $1)) || die "$free GB free for $venv; the installation takes about $1 GB" \
        "free some, or name a folder on a larger disk: tools/install.sh --venv DIR"
}

# Agrees on one stack with what is in the environment: the two share import names.
choose_stack() {
    local found
    found=$("$py" -I "$root/mmpospretrain/environment.py")
    case $found in
        *' '*) die "$venv holds both stacks, onedl and openmmlab: they overwrite each other" \
            "make a fresh environment: tools/install.sh --venv DIR" ;;
    esac
    stack=${stack:-${found:-onedl}}
    [[ -z $found || $found == "$stack" ]] ||
        die "$venv holds the $found stack, which cannot live beside $stack" \
            "keep it: tools/install.sh --stack $found" \
            "or use another environment: tools/install.sh --stack $stack --venv DIR"
}

online() {
    scratch=${scratch:-$(mktemp -d)}
    if [[ -x $venv/bin/uv ]]; then
        "$venv/bin/uv" pip compile --quiet --no-cache --no-deps - <<<pip
    else
        "$py" -m pip download --quiet --no-cache-dir --no-deps --retries 1 --dest "$scratch" uv
    fi &>/dev/null
}

fetch() { # COMMAND...: an installer whose failure may be the network's
    "$@" && return
    online || die "the package index does not answer" \
        "check the network and HTTPS_PROXY; for a mirror set UV_DEFAULT_INDEX and PIP_INDEX_URL"
    die "this command failed, see its messages above: $*"
}

uv_install() { # build.txt also keeps setuptools as old as mmcv needs it, whatever comes
    fetch "$venv/bin/uv" pip install --python "$py" --constraint "$root/requirements/build.txt" "$@"
}

install_tools() {
    "$py" -m pip --version &>/dev/null || "$py" -m ensurepip --upgrade >/dev/null ||
        die "$venv has no pip" "install it there, or use another environment with --venv"
    [[ -x $venv/bin/uv ]] || fetch "$py" -m pip install --quiet uv
    uv_install --quiet --requirement "$root/requirements/build.txt"
}

imports() { "$py" -c "import $1" &>/dev/null; }

why_not() { "$py" -c "import $1" 2>&1 | tail -n 5 >&2 || true; }

version_of() { "$py" -c "from importlib.metadata import version; print(version('$1'))"; }

install_torch() {
    local torch
    if ! torch=$(version_of torch 2>/dev/null); then
        say "installing torch $TORCH and torchvision $TORCHVISION"
        uv_install "torch==$TORCH" "torchvision==$TORCHVISION"
    elif ! imports torchvision; then
        say "keeping torch $torch, installing the torchvision that goes with it"
        uv_install --reinstall-package torchvision "torch==${torch%%+*}" torchvision
    fi
    imports torchvision && return
    why_not torchvision
    die "torch $(version_of torch) and torchvision $(version_of torchvision) are no pair" \
        "install both from one index (a CPU-only torch needs the CPU-only torchvision)," \
        "or remove them; this script then installs torch $TORCH and torchvision $TORCHVISION"
}

# What a build of the ops runs on: cpu, or the CUDA version with the GPU architectures.
device_key() {
    "$py" - <<'EOF'
import os, re, torch
if not torch.cuda.is_available() and os.environ.get('FORCE_CUDA') != '1':
    print('cpu')
else:
    capabilities = (torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    seen = ' '.join(sorted({f'{major}.{minor}' for major, minor in capabilities}))
    archs = os.environ.get('TORCH_CUDA_ARCH_LIST') or seen
    release = (torch.version.cuda or torch.version.hip).replace('.', '')
    print(f'cu{release}-sm' + re.sub(r'[^\w.+]+', '_', archs))
EOF
}

check_compiler() { # DEVICE KEY
    command -v "${CXX:-c++}" >/dev/null || die "no C++ compiler, which mmcv's ops need" \
        "get one: apt-get install g++, or conda install -c conda-forge gxx" \
        "or do without, for pre-training only: tools/install.sh --no-ops"
    "$py" -c 'import pathlib, sysconfig as s, sys
sys.exit(not pathlib.Path(s.get_path("include"), "Python.h").exists())' ||
        die "Python.h is missing, which mmcv's ops need" "get it: apt-get install python3-dev"
    [[ $1 == cpu ]] || "$py" -c 'import os, sys; from torch.utils import cpp_extension as c
sys.exit(not (c.CUDA_HOME and os.access(f"{c.CUDA_HOME}/bin/nvcc", os.X_OK)) and not c.ROCM_HOME)' ||
        die "a GPU but no CUDA compiler (nvcc), which mmcv's ops need" \
            "get it in the release of torch ($1), set CUDA_HOME, and run this again," \
            "or do without, for pre-training only: tools/install.sh --no-ops"
}

show_progress() { # PID LOG: ninja's [done/all] lines as one line on a terminal
    local started=$SECONDS shown=-20 pause=20 end='\n' begun='' state count total seconds
    [[ ! -t 1 ]] || pause=1 end='\r'
    while kill -0 "$1" 2>/dev/null; do
        sleep 1
        ((SECONDS - shown >= pause)) || continue
        shown=$SECONDS seconds=$((SECONDS - started)) state='preparing'
        IFS=/ read -r count total < <(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$2" | tail -n 1 | tr -d ' []') || true
        if [[ -n ${total:-} ]]; then
            begun=${begun:-$seconds}
            state=$(printf '%d of %d files, about %d min left' "$count" "$total" \
                $((((seconds - begun) * (total - count) / count + 59) / 60)))
        fi
        printf "    %d:%02d  %-50s$end" $((seconds / 60)) $((seconds % 60)) "$state"
    done
    [[ ! -t 1 ]] || echo
}

# Builds the wheel aside and moves it into the cache whole: a kill leaves nothing there.
build_mmcv() { # REQUIREMENT FOLDER
    local log=$cache/logs/${2##*/}.log wheel
    mkdir -p "$cache/logs" "${2%/*}"
    scratch=$(mktemp -d "$cache/building.XXXXXX")
    say "building $1 with its compiled ops: about 15 minutes on 2 cores, once"
    echo "    log: $log"
    # Neither pip's own cache nor a found binary: both ignore for which torch they are.
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} setsid \
        "$py" -m pip wheel --verbose --no-cache-dir --no-binary "${1%%=*}" --no-deps \
        --no-build-isolation --wheel-dir "$scratch/wheel" "$1" >"$log" 2>&1 </dev/null &
    build=$!
    show_progress $build "$log"
    if ! wait $build; then
        build=''
        tail -n 30 "$log" >&2
        online || die "the package index does not answer" "whole log: $log"
        die "building $1 failed, see above" "whole log: $log" \
            "out of memory? try MAX_JOBS=1 tools/install.sh" \
            "or do without, for pre-training only: tools/install.sh --no-ops"
    fi
    build=''
    wheel=$(echo "$scratch"/wheel/*.whl)
    # Without torch in sight mmcv builds in seconds, has no ops, and says nothing.
    "$py" -c 'import sys, zipfile
sys.exit(not any(n.startswith("mmcv/_ext.") for n in zipfile.ZipFile(sys.argv[1]).namelist()))' \
        "$wheel" ||
        die "the wheel of $1 has no compiled ops" "whole log: $log"
    mv -T "$scratch/wheel" "$2" 2>/dev/null || [[ -f $2/${wheel##*/} ]]
    rm -rf "$scratch" && scratch=''
}

install_mmcv() {
    local requirement device tags folder
    requirement=$(grep -E '^(onedl-)?mmcv==' "$root/requirements/$stack.txt")
    if [[ $(version_of "${requirement%%=*}" 2>/dev/null) == "${requirement##*=}" ]]; then
        if ((!ops)) || imports mmcv._ext; then return; fi
    fi
    if ((!ops)); then
        # In an isolated build there is no torch, and mmcv leaves its ops out.
        uv_install --no-deps --build-constraint "$root/requirements/build.txt" "$requirement"
        return
    fi
    device=$(device_key)
    tags=$("$py" -c 'import sys, sysconfig; print(
        f"cp{sys.version_info[0]}{sys.version_info[1]}-@-{sysconfig.get_platform()}")')
    folder=$cache/wheels/$stack-mmcv${requirement##*=}-torch$(version_of torch)-${tags/@/$device}
    if ! compgen -G "$folder/*.whl" >/dev/null; then
        check_compiler "$device"
        build_mmcv "$requirement" "$folder"
    fi
    uv_install --no-deps --reinstall "$folder"/*.whl
}

install() { # STAMP STATE
    say "installing the $stack stack into $venv"
    [[ -n $(version_of torch 2>/dev/null) ]] || check_disk 12
    install_tools
    install_torch
    install_mmcv
    uv_install --no-build-isolation --override "$root/requirements/overrides.txt" \
        --constraint "$root/requirements/$stack.txt" --editable "${root}[$stack${extras:+,$extras}]"
    local modules='torchvision, mmengine, mmcv, mmpretrain'
    ((!ops)) || modules+=', mmcv._ext'
    imports "$modules" || {
        why_not "$modules"
        die "installed, but the import above fails" \
            "make a fresh environment: tools/install.sh --venv DIR"
    }
    echo "$2" >"$1"
}

main() {
    parse_arguments "$@"
    unset PYTHONPATH PYTHONHOME # neither may stand in for what the environment lacks
    choose_environment
    choose_stack
    local stamp=$venv/.mmpospretrain-install state
    state=$({
        echo "$stack" "$extras" "$ops" "$root"
        cat "$root"/setup.cfg "$root"/requirements/*.txt "${BASH_SOURCE[0]}"
    } | sha256sum)
    if [[ -f $stamp && $(<"$stamp") == "$state" ]] && "$py" -m mmpospretrain.doctor; then
        say "$venv is up to date"
    else
        install "$stamp" "$state"
        "$py" -m mmpospretrain.doctor
    fi
    [[ ${VIRTUAL_ENV:-${CONDA_PREFIX:-}} == "$venv" ]] ||
        say "activate it: source $venv/bin/activate"
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@" # tests source this file
