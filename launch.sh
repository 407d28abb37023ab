#!/usr/bin/env bash
# The steps of the action: runs a mode in a container (or in a venv with `runtime: host`), as the job's user.
#
#   launch.sh          replaces itself by the process that does the work, which gets the runner's signals and sets the exit code
#   launch.sh clean    runs afterwards in any case, and removes the container if there is one left
#
# ECHOSELF_INPUTS holds the inputs as JSON; ECHOSELF_REPOSITORY and ECHOSELF_REF identify the action (empty in a checkout of its
# own repository). All other variables are the runner's. Nothing is eval'ed, and `image` is the only input on a command line.
set -euo pipefail
exec 2>&1 # runners read the two streams separately, and would show Docker's messages outside their group
# without the trap, bash would ignore a cancel until the image is pulled, and then start the run
trap 'exit 130' INT TERM

action=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# one name per job and machine: several runners may share a Docker engine, and matrix jobs share a run id
container=echoself-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-0}-$(cksum <<<"${RUNNER_NAME-} $RUNNER_TEMP" | cut -d' ' -f1)

# Reports an error ($1) and what to change ($2), and fails the step. Neither may contain text from inputs.
refuse() {
  printf '::error title=echoself-action::%s%%0A  %s\n' "$1" "$2"
  printf '## echoself-action: not done\n\n    %s\n    %s\n' "$1" "$2" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  exit 2
}

# Prints the input $1, up to the first quote in it; `clean` has no inputs. Quotes in JSON strings are escaped, so no value can look like a key.
input() {
  local pattern="[{,][[:space:]]*\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\""
  [[ ! ${ECHOSELF_INPUTS-} =~ $pattern ]] || printf '%s' "${BASH_REMATCH[1]}"
}

# Prints the word that the line `$1: word` of the input `settings` has.
setting() {
  local text='[{,][[:space:]]*"settings"[[:space:]]*:[[:space:]]*"([^"\\]*(\\.[^"\\]*)*)"' line="(^|\\\\n)$1:[[:space:]]*(\\\\\")?([a-z]+)"
  [[ ! ${ECHOSELF_INPUTS-} =~ $text || ! ${BASH_REMATCH[1]} =~ $line ]] || printf '%s' "${BASH_REMATCH[3]}"
}

# an input of the action, or a line of its input `settings`: both at once is an error of the run
given() { printf '%s' "$(input "$1")$(setting "$1")"; }

# the token is needed only to read the artifacts of the run that triggered this one, to create a release, and to comment
[[ ${GITHUB_EVENT_NAME-} == workflow_run || $(given create_release) == true || $(given comment) == true ]] || unset GITHUB_TOKEN

has_gpu() { nvidia-smi -L >/dev/null 2>&1; }

# Runs in a venv for this version of the action and of Python, which later jobs of the runner reuse.
run_on_host() {
  local python venv
  python=$(python3 -c 'import sys; print(sys.executable, sys.version); sys.exit(sys.version_info < (3, 11))') ||
    refuse "runtime: host needs Python 3.11 or newer as python3. Nothing was done." "Add actions/setup-python before this step."
  venv=${RUNNER_TOOL_CACHE:-$RUNNER_TEMP}/echoself-action/$(cksum <<<"$python" | cut -d' ' -f1)-$("$action/install.sh" key)
  if [[ ! -e $venv/complete ]]; then
    echo "::group::Installing into $venv"
    rm -rf "$venv"
    { python3 -m venv "$venv" && install "$venv/bin/pip"; } ||
      refuse "runtime: host: the packages can't be installed. Nothing was done." "The log of this step has pip's error."
    touch "$venv/complete"
    echo "::endgroup::"
  fi
  exec "$venv/bin/python" "$action/entrypoint.py"
}

# Installs the package, localhub, and model-signing (for which the image has no room), with the pip $1.
install() {
  "$action/install.sh" torch "$1"
  "$1" install -q "$action/packages/localhub" "${action}[sign]"
}

# Sets `image`: the input, else the published image of this version and flavour ($1), else one built here.
find_image() {
  local tag
  image=$(input image)
  if [[ -n $image ]]; then
    [[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] ||
      refuse "image: not a valid image reference. Nothing was done." \
        "Use registry/name:tag or registry/name@sha256:digest."
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" ||
      refuse "image: $image can't be pulled. Nothing was done." \
        "Check the reference, and log in to its registry before this step."
    return 0
  fi
  tag=$(tr / - <<<"${ECHOSELF_REF-}")
  # v1 and v1.2.3 are releases, whose images are tagged with the version; other refs are commits or branches
  [[ ! $tag =~ ^v[0-9]+(\.[0-9]+)*$ ]] || tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$action/pyproject.toml")
  if [[ -n $tag && -n ${ECHOSELF_REPOSITORY-} ]]; then
    image=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<<"$ECHOSELF_REPOSITORY"):$tag-$1
    echo "pulling $image"
    ! docker pull --quiet "$image" || return 0
  fi
  echo "::group::Building the image ($1)"
  docker build --build-arg "FLAVOR=$1" --iidfile "$RUNNER_TEMP/echoself-image" "$action" ||
    refuse "The image could be neither pulled nor built. Nothing was done." \
      "The log of this step has Docker's error. Alternatively, use runtime: host."
  echo "::endgroup::"
  image=$(<"$RUNNER_TEMP/echoself-image")
}

run_in_container() {
  local mode device flavor=cpu options=() name
  mode=$(given mode) device=$(given device)
  docker version >/dev/null 2>&1 ||
    refuse "Docker is not available to this job. Nothing was done." "Use runtime: host."
  if [[ $mode != deploy && $mode != pull && $mode != compare && $device != cpu ]]; then
    if has_gpu; then
      flavor=cuda
      options=(--gpus all --shm-size 8g) # NCCL uses shared memory, which Docker limits to 64 MB by default
    elif [[ $device == cuda ]]; then
      refuse "device: cuda needs an NVIDIA GPU, and nvidia-smi finds none on this runner. Nothing was trained." \
        "Use device: auto, or a runner with an NVIDIA GPU, its driver and the NVIDIA Container Toolkit."
    fi
  fi
  find_image "$flavor"
  # by name, because every user of the machine can read command lines; unset variables stay unset
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

# There is a container only if the Docker client was killed. On docker stop it saves a checkpoint.
clean() {
  docker container inspect "$container" >/dev/null 2>&1 || return 0
  docker stop -t 10 "$container" >/dev/null || true
  # the engine refuses to remove a container that --rm is removing: wait for that
  local tries=0
  while docker container inspect "$container" >/dev/null 2>&1 && ((tries++ < 50)); do
    docker rm --force "$container" >/dev/null 2>&1 || sleep 0.2
  done
  local message="The run was interrupted and its container stopped. A checkpoint is saved: run the job again to resume."
  echo "::warning title=echoself-action::$message"
  printf '## echoself-action: interrupted\n\n%s\n' "$message" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
}

if [[ ${1-} == clean ]]; then
  clean
  exit
fi
case $(input runtime) in
  auto | docker | '') run_in_container ;;
  host) run_on_host ;;
  *) refuse "runtime: not an allowed value. Nothing was done." "Use auto, docker or host." ;;
esac
