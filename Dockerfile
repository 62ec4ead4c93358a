# CPU; for CUDA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir "torch>=2.6,<2.14" --index-url "$TORCH_INDEX"
COPY . /src
RUN pip install --no-cache-dir "/src[web]" && rm -rf /src
# Any user id may run it: its home and caches are where everybody writes.
ENV HOME=/tmp LIPSOUND2_CACHE=/tmp/lipsound2 NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /data
USER 1000
ENTRYPOINT ["lipsound2"]
