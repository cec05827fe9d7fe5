# multimodal on a CPU, as a user without rights.
#
#   docker build --tag multimodal .
#   docker run --rm --no-healthcheck --volume "$PWD:/data" multimodal index photos --index memories.lance
#
# PyTorch's default wheels for Linux bring CUDA. An index of CPU wheels makes the image some GB smaller:
#   docker build --build-arg TORCH_INDEX=<its address> --tag multimodal .

FROM python:3.13-slim AS build

ARG TORCH_INDEX=""
ARG EXTRAS="hf,openclip"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY multimodal ./multimodal
COPY encoders ./encoders
COPY pipelines ./pipelines
COPY assets ./assets

RUN python -m venv /opt/multimodal \
    && /opt/multimodal/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[$EXTRAS]"


FROM python:3.13-slim

COPY --from=build /opt/multimodal /opt/multimodal

ENV PATH="/opt/multimodal/bin:$PATH" \
    HF_HOME=/cache/huggingface \
    MULTIMODAL_CACHE=/cache/multimodal \
    PYTHONUNBUFFERED=1

RUN useradd --uid 10001 --create-home multimodal \
    && install --directory --owner=multimodal --group=multimodal /cache /data

USER 10001
WORKDIR /data
EXPOSE 7997

# For `multimodal serve`. Other commands run with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7997/health', timeout=4)"]

ENTRYPOINT ["multimodal"]
CMD ["--help"]
