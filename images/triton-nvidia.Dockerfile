# Triton for production: the official image (with its native onnxruntime and python backends), plus what the tokenizer,
# image, head and generator models import. Serves the very repository that the development image serves.
# TRITON_IMAGE: the official server image of a release whose python is 3.10 or newer, by digest.
ARG TRITON_IMAGE
FROM ${TRITON_IMAGE}
USER root
ARG TOKENIZERS_VERSION=0.23.3
ARG ONNXRUNTIME_VERSION=1.31.1
ARG PILLOW_VERSION=13.0.0
RUN python3 -m pip install --no-cache-dir --break-system-packages \
        "tokenizers==${TOKENIZERS_VERSION}" "onnxruntime==${ONNXRUNTIME_VERSION}" "pillow==${PILLOW_VERSION}" numpy \
    || python3 -m pip install --no-cache-dir \
        "tokenizers==${TOKENIZERS_VERSION}" "onnxruntime==${ONNXRUNTIME_VERSION}" "pillow==${PILLOW_VERSION}" numpy
USER 65532:65532
ENTRYPOINT ["tritonserver"]
