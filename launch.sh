#!/usr/bin/env bash
# What the action's steps run: a mode, in a container (or in a venv: `runtime: host`), as the user of the job.
#
#   launch.sh          ends as the process that does the work: the runner's signals reach it, and its exit code is the step's
#   launch.sh clean    afterwards, whatever has happened: no container is left
#
# ECHOSELF_INPUTS holds the inputs as JSON; ECHOSELF_REPOSITORY and ECHOSELF_REF say which action this is (empty in a checkout
# of its own repository). The rest is the runner's. Nothing here is eval'ed, and no input but `image` reaches a command line.
set -euo pipefail
exec 2>&1 # a runner reads two streams apart, and shows what Docker says outside the group that it belongs to
# bash alone would outlive a cancel while an image is fetched, and start the work then
trap 'exit 130' INT TERM

action=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# one a job and machine: several runners may share a Docker engine, and a matrix shares its run
container=echoself-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-0}-$(cksum <<<"${RUNNER_NAME-} $RUNNER_TEMP" | cut -d' ' -f1)

# Says what is wrong and what to change, neither of which may be text from outside, and ends the step.
refuse() {
  printf '::error title=echoself-action::%s%%0A  %s\n' "$1" "$2"
  printf '## echoself-action: not done\n\n    %s\n    %s\n' "$1" "$2" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  exit 2
}

# The input $1, up to a quote in it. Within a JSON string a quote has a backslash before it, so that no value looks like a key.
input() {
  local pattern="[{,][[:space:]]*\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\""
  [[ ! $ECHOSELF_INPUTS =~ $pattern ]] || printf '%s' "${BASH_REMATCH[1]}"
}

# the token is for the artifacts of the run that triggered this one, and for a release: without either, nobody gets it
[[ ${GITHUB_EVENT_NAME-} == workflow_run || $(input create_release) == true ]] || unset GITHUB_TOKEN

has_gpu() { nvidia-smi -L >/dev/null 2>&1; }

# A venv for this action and this Python; kept where the runner keeps its tools.
run_on_host() {
  local found venv
  found=$(python3 -c 'import sys; print(sys.executable, sys.version); sys.exit(sys.version_info < (3, 11))') ||
    refuse "runtime: host needs Python 3.11 or newer as python3. Nothing was done." "Put actions/setup-python before this step."
  venv=${RUNNER_TOOL_CACHE:-$RUNNER_TEMP}/echoself-action/$({ echo "$found"; cd "$action"; cat pyproject.toml packages/localhub/pyproject.toml hatch_build.py echoself_action/native/csrc/*.[ch]; } |
    cksum | tr ' ' -)
  if [[ ! -e $venv/complete ]]; then
    echo "::group::Installing into $venv"
    rm -rf "$venv"
    { python3 -m venv "$venv" && install "$venv/bin/pip"; } ||
      refuse "runtime: host: the packages can't be installed. Nothing was done." "The step's log says what Python met."
    touch "$venv/complete"
    echo "::endgroup::"
  fi
  exec "$venv/bin/python" "$action/entrypoint.py"
}

# The package and what it needs, with the pip $1; and what signing needs, which the image has no room for.
install() {
  if [[ $(uname -s) == Linux ]] && ! has_gpu; then
    # PyTorch's plain package brings CUDA along; where this index can't be reached, pip's own settings decide
    "$1" install -q --no-deps --retries 0 --timeout 15 --index-url https://download.pytorch.org/whl/cpu \
      "$(sed -n 's/^ *"\(torch==[0-9.]*\)",$/\1/p' "$action/pyproject.toml")" || true
  fi
  "$1" install -q "$action/packages/localhub" "${action}[sign]"
}

# Sets `image` for the flavour $1: the one that is named, else the one made for this version of the action, else one made here.
find_image() {
  local tag
  image=$(input image)
  if [[ -n $image ]]; then
    [[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] ||
      refuse "image: its value is no reference of an image. Nothing was done." \
        "Write registry/name:tag or registry/name@sha256:digest."
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" ||
      refuse "image: $image can't be pulled. Nothing was done." \
        "Check the reference, and log in to its registry before this step."
    return 0
  fi
  tag=$(tr / - <<<"${ECHOSELF_REF-}")
  # v1 and v1.2.3 are releases, whose images carry the version; anything else is a commit or a branch
  [[ ! $tag =~ ^v[0-9]+(\.[0-9]+)*$ ]] || tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$action/pyproject.toml")
  if [[ -n $tag && -n ${ECHOSELF_REPOSITORY-} ]]; then
    image=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<<"$ECHOSELF_REPOSITORY"):$tag-$1
    echo "pulling $image"
    ! docker pull --quiet "$image" || return 0
  fi
  echo "::group::Building the image ($1)"
  docker build --build-arg "FLAVOR=$1" --iidfile "$RUNNER_TEMP/echoself-image" "$action" ||
    refuse "The image could be neither pulled nor built. Nothing was done." \
      "The step's log says what Docker met; or use runtime: host."
  echo "::endgroup::"
  image=$(<"$RUNNER_TEMP/echoself-image")
}

run_in_container() {
  local mode device flavor=cpu options=() name
  mode=$(input mode) device=$(input device)
  docker version >/dev/null 2>&1 ||
    refuse "This runner has no Docker engine, or the job may not use it. Nothing was done." "Use runtime: host."
  if [[ $mode != deploy && $mode != pull && $mode != compare && $device != cpu ]]; then
    if has_gpu; then
      flavor=cuda
      options=(--gpus all --shm-size 8g) # data loaders and NCCL share memory; Docker's default is 64 MB
    elif [[ $device == cuda ]]; then
      refuse "device: cuda was asked for, and nvidia-smi finds no GPU on this runner. Nothing was trained." \
        "Use device: auto, or a runner with an NVIDIA GPU, its driver and the NVIDIA Container Toolkit."
    fi
  fi
  find_image "$flavor"
  # by name, because values on a command line can be read by everybody on the machine; what is not set stays so
  for name in ECHOSELF_INPUTS HOME GITHUB_ACTIONS GITHUB_OUTPUT GITHUB_STEP_SUMMARY GITHUB_EVENT_PATH \
    GITHUB_API_URL GITHUB_REPOSITORY GITHUB_SHA GITHUB_TOKEN \
    HF_TOKEN HF_ENDPOINT HF_OIDC_RESOURCE HF_OIDC_ID_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN \
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    options+=(--env "$name")
  done
  export DOCKER_CONFIG=${DOCKER_CONFIG:-$HOME/.docker} HOME=$RUNNER_TEMP/echoself-home
  mkdir -p "$HOME"
  exec docker run --rm --init --name "$container" --user "$(id -u):$(id -g)" --cap-drop ALL --security-opt no-new-privileges \
    --mount "type=bind,source=$GITHUB_WORKSPACE,target=$GITHUB_WORKSPACE" \
    --mount "type=bind,source=$RUNNER_TEMP,target=$RUNNER_TEMP" --workdir "$GITHUB_WORKSPACE" "${options[@]}" "$image"
}

# A container is there only if the client was killed: asked to stop, it saves what it has trained.
clean() {
  docker container inspect "$container" >/dev/null 2>&1 || return 0
  docker stop -t 10 "$container" >/dev/null || true
  # --rm may be at it: then the engine refuses to do it too, and the container is there until it is done
  local tries=0
  while docker container inspect "$container" >/dev/null 2>&1 && ((tries++ < 50)); do
    docker rm --force "$container" >/dev/null 2>&1 || sleep 0.2
  done
  local told="The run was cut off; its container has been stopped. What was trained is saved: run it again to go on there."
  echo "::warning title=echoself-action::$told"
  printf '## echoself-action: cut off\n\n%s\n' "$told" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
}

if [[ ${1-} == clean ]]; then
  clean
  exit
fi
case $(input runtime) in
  docker | '') run_in_container ;;
  host) run_on_host ;;
  *) refuse "runtime: its value is neither docker nor host. Nothing was done." "Use docker or host." ;;
esac
