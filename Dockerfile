# The agent, the command line and the shim. One image for every node, also for a node without a GPU.
#
#   docker build -t gpuslice:dev .
#
# Nothing of NVIDIA's is in it: the agent finds the node's own driver library below GPUSLICE_DRIVER_ROOT.

FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv
WORKDIR /src
COPY pyproject.toml ./
# What pip would fetch for each build, in a layer of its own; zig is the compiler, here as everywhere else without one.
RUN python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --upgrade pip \
    && /tools/bin/pip install --no-cache-dir cmake ninja --group release \
        $(/tools/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
# The dependencies change less often than the code.
RUN python3 -m venv --without-pip /opt/gpuslice \
    && /tools/bin/pip --python /opt/gpuslice/bin/python install --no-cache-dir --only-binary :all: --no-compile \
        $(/tools/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])')
COPY . .
RUN native/release/zig-tool.sh /tools/bin/python build/zig \
    && PATH=/tools/bin:$PATH CC=/src/build/zig/cc \
       CMAKE_ARGS="-DCMAKE_AR=/src/build/zig/ar -DCMAKE_RANLIB=/src/build/zig/ranlib" \
       pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /tools/bin/pip --python /opt/gpuslice/bin/python install --no-cache-dir --no-compile --no-deps /wheels/*.whl
# Tenants' containers have other libcs than this one: their shim is the release build, for glibc 2.17 and newer.
RUN PATH=/tools/bin:$PATH native/release/compile.sh /tools/bin/python "$(uname -m)" 2.17 gpuslice \
    && cp build/release-*-2.17/shim/libgpuslice.so /opt/gpuslice/lib/python3.11/site-packages/gpuslice_agent/native/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc /usr/share/man
COPY --from=build /opt/gpuslice /opt/gpuslice
# Compiled here once: the root file system of the DaemonSet is read-only.
RUN python3 -m compileall -q -j 0 /opt/gpuslice/lib \
    && ln -s /opt/gpuslice/bin/gpuslice /usr/local/bin/gpuslice
ENV PYTHONDONTWRITEBYTECODE=1
# For everything that needs no more: `gpuslice status` of a socket it may open, `gpuslice xid`, `gpuslice --help`.
# The agent itself makes mounts and reads other users' /proc: the DaemonSet asks for root by name.
USER 65532:65532
ENTRYPOINT ["gpuslice"]
CMD ["agent"]
