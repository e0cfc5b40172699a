# syntax=docker/dockerfile:1
# Image with partialnas, its dependencies and the shipped studies; TORCH chooses the build of PyTorch.
#
#   docker build -t partialnas .                                    CPU only
#   docker build -t partialnas:cuda --build-arg TORCH=cu130 .       CUDA 13.0; or cu128, ...
#   docker run --rm --shm-size=2g -v "$PWD:/studies" partialnas run quickstart
#   docker run --rm --shm-size=2g -v "$PWD:/studies" --gpus all partialnas:cuda run study.yaml
#
# Results go to /studies/results. If your user id is not 1000, add `--user "$(id -u)"`.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/partialnas
RUN pip install --no-cache-dir uv==0.13.8 && uv venv "$VIRTUAL_ENV"
WORKDIR /src
COPY pyproject.toml .
RUN uv pip install --torch-backend="$TORCH" --requirement pyproject.toml --extra onnx --extra export
COPY . .
RUN uv pip install --no-deps .

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 partialnas && mkdir /studies && chown partialnas /studies
COPY --from=build /opt/partialnas /opt/partialnas
ENV PATH=/opt/partialnas/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
USER 1000
WORKDIR /studies
ENTRYPOINT ["partialnas"]
CMD ["--help"]
