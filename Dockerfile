# The image that launch.sh runs. Two flavours: `docker build .` has PyTorch for CPUs, --build-arg FLAVOR=cuda the one for GPUs.
#
# What changes seldom comes first: a change of code makes nothing anew but the last stage but one, and one small layer.
# The same Python as the tests'.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Only what pyproject.toml says about packages, so that its other lines don't make the big layer anew.
FROM ${PYTHON_IMAGE} AS requirements
COPY pyproject.toml /
COPY packages/localhub/pyproject.toml /localhub.toml
RUN python -c "import tomllib; project = tomllib.load(open('/pyproject.toml', 'rb')); \
    localhub = tomllib.load(open('/localhub.toml', 'rb')); \
    open('/run.txt', 'w').write('\n'.join(project['project']['dependencies'] + localhub['project']['dependencies'])); \
    open('/torch.txt', 'w').writelines(name for name in project['project']['dependencies'] if name.startswith('torch==')); \
    open('/build.txt', 'w').write('\n'.join(project['build-system']['requires']))"

FROM ${PYTHON_IMAGE} AS dependencies
ARG FLAVOR=cpu
COPY --from=requirements /run.txt /torch.txt /
RUN python -m venv --without-pip /opt/venv
# PyTorch's plain package brings CUDA along. Where the index of its CPU builds can't be reached, pip's own settings decide.
RUN case $FLAVOR in \
      cpu) pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --retries 0 --timeout 15 \
        --index-url https://download.pytorch.org/whl/cpu -r /torch.txt || true ;; \
      cuda) ;; \
      *) echo "FLAVOR is cpu or cuda, not $FLAVOR" >&2; exit 1 ;; \
    esac; \
    pip --python /opt/venv/bin/python install --no-cache-dir -r /run.txt
# Headers, tests and programs that only who compiles against a package needs; pyarrow's clients of a database protocol and of S3;
# of fontTools all but the names of characters, for pictures are PNG. torch can't be imported without torch/testing and
# bin/torch_shm_manager.
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN rm -rf torch/include torch/test torch/share torch/lib/*test*.so pyarrow/include pyarrow/tests pyarrow/*flight* pyarrow/*s3* \
      matplotlib/tests numpy/*/tests && \
    find sympy networkx mpmath -depth -type d -name tests -exec rm -rf {} + && \
    find fontTools -mindepth 1 -maxdepth 1 -type d ! -name misc ! -name config -exec rm -rf {} + && \
    find torch/bin -type f ! -name torch_shm_manager -delete

# GPT-2's vocabulary, so that no job has to fetch it. Without a network the image is built all the same, and jobs fetch it.
FROM dependencies AS vocabulary
RUN mkdir /vocabulary && \
    { TIKTOKEN_CACHE_DIR=/vocabulary timeout 120 /opt/venv/bin/python -c "import tiktoken; tiktoken.get_encoding('gpt2')" || \
      echo "GPT-2's vocabulary can't be fetched: it is not in this image"; }

FROM ${PYTHON_IMAGE} AS package
# for what the package has in C. Where it can't be had the image is built all the same, and trains with PyTorch's operations alone.
# hadolint ignore=DL3008
RUN { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; } || \
    echo "a compiler can't be fetched: native code is not in this image"
COPY --from=requirements /build.txt /
RUN pip install --no-cache-dir -r /build.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY packages packages
COPY echoself_action echoself_action
RUN pip install --no-cache-dir --no-deps --no-build-isolation --target /app ./packages/localhub .
COPY entrypoint.py /app/

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="echoself-action" \
      org.opencontainers.image.description="Trains GPT-2 models on a repository's own text, and publishes them" \
      org.opencontainers.image.source="https://github.com/9cog/echoself-action" \
      org.opencontainers.image.licenses="MIT"
ARG FLAVOR=cpu
# what torch.compile makes for a GPU is called by code that it compiles with this; Debian keeps no version for long
# hadolint ignore=DL3008
RUN [ $FLAVOR != cuda ] || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
      rm -rf /var/lib/apt/lists/*; }
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app
COPY --from=dependencies /opt/venv /opt/venv
# where tiktoken looks by itself; a folder named to it in the environment would have to be writable
COPY --from=vocabulary /vocabulary /tmp/data-gym-cache
COPY --from=package /app /app
USER 65534:65534
ENTRYPOINT ["python", "/app/entrypoint.py"]
