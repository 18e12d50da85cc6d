# Triton on CPU, with the python backend and a development backend "onnxruntime" that is itself Python.
# The backend's stub ignores PYTHONPATH: a .pth file tells it where the libraries are.
ARG DEPS
FROM ${DEPS}
USER 0
RUN mkdir -p /opt/tritonserver/backends && \
    mv /opt/site/pytriton/tritonserver/backends/python /opt/tritonserver/backends/python && \
    cp /opt/site/pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub /opt/tritonserver/backends/python/ && \
    echo /opt/site > /usr/local/lib/python3.11/dist-packages/site.pth
COPY operator/optimodel/backends/onnxruntime /opt/tritonserver/backends/onnxruntime/
ENV LD_LIBRARY_PATH=/opt/site/nvidia_pytriton.libs PYTHONPATH=/opt/site
USER 65532:65532
ENTRYPOINT ["/opt/site/pytriton/tritonserver/bin/tritonserver", \
            "--backend-directory=/opt/tritonserver/backends", \
            "--cache-directory=/opt/site/pytriton/tritonserver/caches"]
