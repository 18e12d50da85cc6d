# The operator, and the init container that pulls artifacts.
ARG DEPS
FROM ${DEPS}
USER 0
COPY operator/optimodel /opt/optimodel/optimodel/
RUN python3 -m compileall -q /opt/optimodel
USER 65532:65532
ENTRYPOINT ["python3", "-m", "optimodel.app"]
