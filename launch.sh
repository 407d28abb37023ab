#!/usr/bin/env bash
# The steps of the action: runs a mode in a container or in a venv, as the job's user.
#
#   launch.sh          replaces itself by the process that does the work, which gets the runner's signals and sets the exit code
#   launch.sh clean    runs afterwards in any case, and removes the container or the unfinished venv if there is one left
#
# `runtime: auto` takes a container if Docker can run one for this job, else a venv, and logs the reason (docs/runtime.md).
# ECHOSELF_INPUTS holds the inputs as JSON; ECHOSELF_REPOSITORY and ECHOSELF_REF identify the action (empty in a checkout of its
# own repository). All other variables are the runner's. Nothing is eval'ed, and `image` is the only input on a command line.
# It must run in the bash 3.2 of macOS.
set -euo pipefail
exec 2>&1 # runners read the two streams separately, and would show Docker's messages outside their group
# without the trap, bash would ignore a cancel until the image is pulled, and then start the run
trap 'exit 130' INT TERM

action=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# one name per job and machine: several runners may share a Docker engine, and matrix jobs share a run id
container=echoself-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-0}-$(cksum <<<"${RUNNER_NAME-} $RUNNER_TEMP" | cut -d' ' -f1)
# The variables of the job that a container gets besides those of its image. By name, because every user of the machine can read
# command lines; those that are not set stay so. tests/doors checks that all variables that the program reads are among them.
job_variables=(
  ECHOSELF_INPUTS ECHOSELF_REPOSITORY ECHOSELF_REF ECHOSELF_COMMIT_TIME ECHOSELF_ISA ECHOSELF_PACKAGES HOME
  GITHUB_ACTIONS GITHUB_OUTPUT GITHUB_STEP_SUMMARY GITHUB_EVENT_PATH GITHUB_WORKSPACE GITHUB_TOKEN
  GITHUB_SERVER_URL GITHUB_API_URL GITHUB_GRAPHQL_URL GITHUB_REPOSITORY GITHUB_REPOSITORY_ID GITHUB_REPOSITORY_OWNER
  GITHUB_SHA GITHUB_REF GITHUB_REF_NAME GITHUB_REF_TYPE GITHUB_HEAD_REF GITHUB_BASE_REF GITHUB_EVENT_NAME GITHUB_ACTOR
  GITHUB_WORKFLOW GITHUB_WORKFLOW_REF GITHUB_WORKFLOW_SHA GITHUB_JOB GITHUB_RUN_ID GITHUB_RUN_NUMBER GITHUB_RUN_ATTEMPT
  RUNNER_NAME RUNNER_OS RUNNER_ARCH RUNNER_ENVIRONMENT RUNNER_TEMP RUNNER_DEBUG
  HF_TOKEN HF_ENDPOINT HF_OIDC_RESOURCE HF_OIDC_ID_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN
  HF_HUB_DISABLE_XET HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT
  HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
  OMP_NUM_THREADS CUDA_VISIBLE_DEVICES NCCL_DEBUG NCCL_P2P_DISABLE
)

# Reports an error ($1) and what to change ($2), and fails the step. Neither may contain text from inputs.
refuse() {
  printf '::error title=echoself-action::%s%%0A  %s\n' "$1" "$2"
  printf '## echoself-action: not done\n\n    %s\n    %s\n' "$1" "$2" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  exit 2
}

# Prints the input $1 as it is in the JSON: with quotes, backslashes and line breaks escaped, so no value can look like a key.
# toJSON writes one input a line, with its name as in the workflow: for GitHub, `Runtime` is `runtime`. `clean` has no inputs.
input() {
  { LC_ALL=C grep -i "^[[:space:]]*\"$1\":" <<<"${ECHOSELF_INPUTS-}" || true; } |
    LC_ALL=C sed -n 's/^[^:]*:[[:space:]]*"\(.*\)",\{0,1\}[[:space:]]*$/\1/p'
}

# Prints the input $1 as it was written.
text_input() { printf '%b' "$(input "$1" | sed 's/\\"/"/g')"; }

# Prints the value of $1 in YAML on standard input: only a word at the top level, such as `device: cuda`, quoted or not.
yaml_value() {
  LC_ALL=C sed -n "s/^$1[[:space:]]*:[[:space:]]*[\"']\{0,1\}\([A-Za-z0-9_]*\)[\"']\{0,1\}[[:space:]]*\(#.*\)\{0,1\}$/\1/p" | tail -n 1
}

# Prints an input of the program: from its own input, else from `settings`, else from the YAML file. It is a hint: the program reads
# and checks all of them, also what yaml_value can't read (the inputs of `models`, other spellings of YAML).
setting() {
  local value file
  value=$(input "$1")
  [[ -n $value ]] || value=$(text_input settings | yaml_value "$1")
  file=$(text_input config)
  file=${file:-.github/echoself.yml}
  [[ -n $value || ! -f $file ]] || value=$(yaml_value "$1" <"$file")
  printf '%s' "$value"
}

is_true() {
  case $(setting "$1" | tr '[:upper:]' '[:lower:]') in
    true | t | yes | y | on | 1) ;;
    *) return 1 ;;
  esac
}

# Whether $1 matches the regular expression $2. In a [[ ]], bash 3.2 takes parentheses only from a variable.
matches() { [[ $1 =~ $2 ]]; }

# the token is needed only to read the artifacts of the run that triggered this one, to create a release, and to comment
[[ ${GITHUB_EVENT_NAME-} == workflow_run ]] || is_true create_release || is_true comment || unset GITHUB_TOKEN

# For the notice before GitHub stops a schedule: the image has no git. Empty in a workspace without a commit.
if [[ ${GITHUB_EVENT_NAME-} == schedule ]]; then
  ECHOSELF_COMMIT_TIME=$(git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || true)
  export ECHOSELF_COMMIT_TIME
fi

has_gpu() { nvidia-smi -L >/dev/null 2>&1; }

# --- docker

# Fails, with the reason in `obstacle`, if Docker can't run a container for this job. $1 is the flavor of the image.
docker_is_usable() {
  local answer empty nonce=$container-$RANDOM$RANDOM probe=$RUNNER_TEMP/echoself-probe
  command -v docker >/dev/null 2>&1 || { obstacle="this job has no docker command"; return 1; }
  answer=$(docker version --format '{{.Server.Os}}' 2>&1) ||
    { obstacle="the Docker engine can't be used: $(tail -n 1 <<<"$answer")"; return 1; }
  # An engine that is not this job's, such as the host's in a container job, would mount folders of other content or none. Copying
  # a file out of a container that was never started shows what it mounts, and needs no image but an empty one.
  empty=$(head -c 10240 /dev/zero | docker import - 2>/dev/null) ||
    { obstacle="the Docker engine takes no images from this job"; return 1; }
  mkdir -p "$probe"
  echo "$nonce" >"$probe/file"
  if ! answer=$(docker create --name "$container" --mount "type=bind,source=$GITHUB_WORKSPACE,target=/workspace" \
    --mount "type=bind,source=$probe,target=/probe" "$empty" none 2>&1 >/dev/null) ||
    ! docker cp "$container:/probe/file" - 2>/dev/null | tr -d '\0' | grep -cF "$nonce" >/dev/null; then
    obstacle="the Docker engine does not see the folders of this job, which is normal for the host's engine in a container job"
  # the message of an engine without the toolkit; with it, the empty image fails later, because it has no program
  elif [[ $1 == cuda ]] && answer=$(docker run --rm --gpus all "$empty" none 2>&1 || true) &&
    grep -ciE 'could not select device driver|GPU vendor|CDI device' <<<"$answer" >/dev/null; then
    obstacle="this runner has a GPU, but Docker has no NVIDIA Container Toolkit to use it"
  fi
  docker rm --force "$container" >/dev/null 2>&1 || true
  docker rmi "$empty" >/dev/null 2>&1 || true
  rm -rf "$probe"
  [[ -z $obstacle ]]
}

# Whether the image $1 is for the machine of the engine; another one would fail with "exec format error".
fits() {
  local ours its
  ours=$(docker version --format '{{.Server.Arch}}' 2>/dev/null || true) # podman does not say
  its=$(docker image inspect --format '{{.Architecture}}' "$1")
  [[ -z $ours || $its == "$ours" ]] || { echo "$1 is for $its, and this machine is $ours"; return 1; }
}

# Sets `image`: the input, else the published image of this version and flavor ($1), else one built here. Fails if neither works.
find_image() {
  local tag
  image=$(input image)
  if [[ -n $image ]]; then
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" ||
      refuse "image: $image can't be pulled. Nothing was done." \
        "Check the reference, and log in to its registry before this step."
    fits "$image" || refuse "image: $image is for another architecture than this machine. Nothing was done." \
      "Use an image for this architecture, or remove image: the action then finds or builds one."
    return 0
  fi
  tag=$(tr / - <<<"${ECHOSELF_REF-}")
  # v1 and v1.2.3 are releases, whose images are tagged with the version; other refs are commits or branches
  ! matches "$tag" '^v[0-9]+(\.[0-9]+)*$' || tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$action/pyproject.toml")
  if [[ -n $tag && -n ${ECHOSELF_REPOSITORY-} ]]; then
    image=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<<"$ECHOSELF_REPOSITORY"):$tag-$1
    echo "pulling $image"
    ! { docker pull --quiet "$image" && fits "$image"; } || return 0
  fi
  echo "::group::Building the image ($1)"
  local code=0
  docker build --build-arg "FLAVOR=$1" --iidfile "$RUNNER_TEMP/echoself-image" "$action" || code=$?
  echo "::endgroup::"
  [[ $code == 0 ]] || return 1
  image=$(<"$RUNNER_TEMP/echoself-image")
}

# Whether containers of `image` see the GPU.
image_has_gpu() {
  local answer
  answer=$(docker run --rm --gpus all --entrypoint nvidia-smi "$image" -L 2>&1) ||
    { obstacle="containers don't see this runner's GPU: $(tail -n 1 <<<"$answer")"; return 1; }
}

run_in_container() {
  local name
  for name in "${job_variables[@]}"; do
    options+=(--env "$name")
  done
  export DOCKER_CONFIG=${DOCKER_CONFIG:-$HOME/.docker} HOME=$RUNNER_TEMP/echoself-home
  export ECHOSELF_PACKAGES=$RUNNER_TEMP/echoself-packages # the image lacks the libraries of exports; the program installs them
  mkdir -p "$HOME" "$ECHOSELF_PACKAGES"
  exec docker run --rm --init --name "$container" --user "$(id -u):$(id -g)" --cap-drop ALL --security-opt no-new-privileges \
    --mount "type=bind,source=$GITHUB_WORKSPACE,target=$GITHUB_WORKSPACE" \
    --mount "type=bind,source=$RUNNER_TEMP,target=$RUNNER_TEMP" --workdir "$GITHUB_WORKSPACE" "${options[@]}" "$image"
}

# --- venv

# Sets `python` to one that can create the venv: python3, else another in PATH or in the runner's tool cache. PyTorch's packages decide
# the versions.
find_python() {
  local candidate
  for candidate in python3 python3.{13,12,11,14} "${RUNNER_TOOL_CACHE:-/opt/hostedtoolcache}"/Python/3.1[1-4].*/*/bin/python3; do
    python=$(command -v "$candidate" 2>/dev/null) || continue
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1 || continue
    ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || return 0
    unfinished="$python lacks the modules to create a venv"
  done
  return 1
}

# $1 starts the error: it names the reason for a venv.
run_in_venv() {
  local python unfinished=
  find_python || refuse "$1 needs Python 3.11 to 3.14${unfinished:+, and $unfinished}. Nothing was done." \
    "Add actions/setup-python before this step${unfinished:+, or install the package python3-venv}."
  exec "$python" "$action/host_runtime.py" "$container"
}

# --- which

run() {
  local runtime image mode device flavor=cpu obstacle="" options=()
  runtime=$(input runtime)
  image=$(input image)
  case $(uname -s) in
    Linux | Darwin) ;;
    *) refuse "This runner has neither Linux nor macOS. Nothing was done." "Use runs-on: ubuntu-latest." ;;
  esac
  case $runtime in
    auto | docker | host | '') ;;
    *) refuse "runtime: not an allowed value. Nothing was done." "Use auto, docker or host." ;;
  esac
  [[ -z $image ]] || matches "$image" '^[A-Za-z0-9][A-Za-z0-9._/:@-]*$' ||
    refuse "image: not a valid image reference. Nothing was done." "Use registry/name:tag or registry/name@sha256:digest."
  [[ $runtime != host ]] || run_in_venv "runtime: host"

  mode=$(setting mode)
  device=$(setting device)
  if [[ $mode != deploy && $mode != pull && $mode != compare && $device != cpu ]]; then
    if has_gpu; then
      flavor=cuda
      options=(--gpus all --shm-size 8g) # NCCL uses shared memory, which Docker limits to 64 MB by default
    elif [[ $device == cuda ]]; then
      refuse "device: cuda needs an NVIDIA GPU, and nvidia-smi finds none on this runner. Nothing was trained." \
        "Use device: auto, or a runner with an NVIDIA GPU and its driver."
    fi
  fi
  if docker_is_usable "$flavor"; then
    if ! find_image "$flavor"; then
      obstacle="the image could be neither pulled nor built"
      [[ $runtime == docker ]] || echo "::warning title=echoself-action::runtime: $obstacle, so this job uses a venv."
    elif [[ $flavor != cuda ]] || image_has_gpu; then
      echo "runtime: docker, with the image $image"
      run_in_container
    fi
  fi
  [[ $runtime != docker ]] ||
    refuse "runtime: docker: $obstacle. Nothing was done." "Use runtime: auto or host. The log of this step shows all messages."
  [[ -z $image || -z $(input image) ]] ||
    refuse "image can't be used: $obstacle. Nothing was done." "Remove image: the action then runs in a venv."
  echo "runtime: venv, because $obstacle"
  run_in_venv "runtime: auto chose a venv, because $obstacle. It"
}

# There is a container only if the Docker client was killed. On docker stop it saves a checkpoint.
clean() {
  rm -rf "${RUNNER_TOOL_CACHE:-$RUNNER_TEMP}/echoself-action/unfinished-$container" "$RUNNER_TEMP/echoself-probe"
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
else
  run
fi
