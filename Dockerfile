# The image that launch.sh runs. `docker build .` installs PyTorch's CPU build, --build-arg FLAVOR=cuda the one for GPUs.
#
# Dependencies come first, so that a change of code rebuilds only the stage `package` and one small layer.
# The Python version is the one that the tests use.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Extracts the requirements, so that other changes of pyproject.toml don't rebuild the large layer.
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
COPY install.sh /
RUN python -m venv --without-pip /opt/venv
RUN case $FLAVOR in \
      cpu) PIP_NO_CACHE_DIR=1 TORCH=$(cat /torch.txt) /install.sh torch pip -q --python /opt/venv/bin/python ;; \
      cuda) ;; \
      *) echo "FLAVOR must be cpu or cuda, not $FLAVOR" >&2; exit 1 ;; \
    esac; \
    pip --python /opt/venv/bin/python install --no-cache-dir -r /run.txt
# Removes headers, sources, type stubs, tests and programs that no run needs; pyarrow's Flight and S3 clients; and the
# parts of fontTools that matplotlib uses only for PDF and PostScript. torch can't be imported without torch/testing and
# bin/torch_shm_manager.
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN rm -rf torch/include torch/test torch/share torch/lib/*test*.so pyarrow/include pyarrow/tests pyarrow/*flight* pyarrow/*s3* \
      matplotlib/tests numpy/*/tests fontTools/misc/*.c lz4/block && \
    find sympy networkx mpmath -depth -type d -name tests -exec rm -rf {} + && \
    find fontTools -mindepth 1 -maxdepth 1 -type d ! -name misc ! -name config -exec rm -rf {} + && \
    find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete && \
    find torch/bin -type f ! -name torch_shm_manager -delete
# Of the CUDA packages (500 MB): headers, static and device libraries, the profiler's libraries, a second copy of the compiler NVRTC, and
# cuSOLVER for several GPUs. torch links to none of them. Triton compiles with the headers and the ptxas in its own folder.
RUN [ $FLAVOR != cuda ] || { \
      rm -rf nvidia/*/include nvidia/*/lib/libcusolverMg.so.* nvidia/*/lib/*.alt.so.* nvidia/*/lib/libnvperf_*.so \
        triton/backends/nvidia/lib/cupti triton/backends/nvidia/bin/nvdisasm triton/backends/nvidia/bin/cuobjdump \
        triton/_C/libproton.so triton/profiler triton/instrumentation && \
      find nvidia -name '*.a' -delete && find nvidia -name '*.bc' -delete; }

# GPT-2's vocabulary, so that jobs need not download it. If it can't be downloaded here, jobs do it.
FROM dependencies AS vocabulary
RUN mkdir /vocabulary && \
    { TIKTOKEN_CACHE_DIR=/vocabulary timeout 120 /opt/venv/bin/python -c "import tiktoken; tiktoken.get_encoding('gpt2')" || \
      echo "GPT-2's vocabulary can't be downloaded, and is not in this image"; }

FROM ${PYTHON_IMAGE} AS package
# compiles the native kernels. If it can't be installed, the image is built without them and trains with PyTorch only.
# hadolint ignore=DL3008
RUN { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; } || \
    echo "gcc can't be installed: the native kernels are not in this image"
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
# torch.compile needs a C compiler at run time for GPUs; Debian does not keep old versions, so none is pinned
# hadolint ignore=DL3008
RUN [ $FLAVOR != cuda ] || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
      rm -rf /var/lib/apt/lists/*; }
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app
COPY --from=dependencies /opt/venv /opt/venv
# Jobs that export install their libraries with the base image's pip (echoself_action/formats/runtimes/export_libraries.py).
# tiktoken's default cache; a folder set by TIKTOKEN_CACHE_DIR would have to be writable
COPY --from=vocabulary /vocabulary /tmp/data-gym-cache
COPY --from=package /app /app
USER 65534:65534
ENTRYPOINT ["python", "/app/entrypoint.py"]
