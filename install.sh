#!/bin/sh
# What `run`, `launch.sh` and the Dockerfile share about installing the package.
#
#   install.sh key            a checksum of all files that determine what an installation contains
#   install.sh torch PIP...   installs PyTorch's CPU build with this pip command, unless this machine has an NVIDIA GPU
#
# $TORCH is the requirement (torch==2.13.0); the default is the one in pyproject.toml.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

key() {
  cd "$here"
  cat pyproject.toml packages/*/pyproject.toml hatch_build.py echoself_action/native/csrc/*.[ch] echoself_action/native/csrc/*/*.h | cksum | tr ' ' -
}

# PyTorch's default package on Linux includes CUDA and is ten times as large. If the index of the CPU builds can't be reached,
# nothing is installed here, and pip's own settings decide which build the package gets.
torch() {
  [ "$(uname -s)" = Linux ] || return 0
  ! nvidia-smi -L >/dev/null 2>&1 || return 0
  requirement=${TORCH:-$(sed -n 's/^ *"\(torch==[0-9.]*\)",$/\1/p' "$here/pyproject.toml")}
  "$@" install --no-deps --retries 0 --timeout 15 --index-url https://download.pytorch.org/whl/cpu "$requirement" ||
    echo "PyTorch's CPU build can't be downloaded from its index; pip's settings decide which build is installed" >&2
}

"$@"
