# Debian with Python and nothing else. DEBIAN may be an image made from packages alone, where no registry is in reach.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
RUN test -e /usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0 || ( \
      apt-get update && apt-get install -y --no-install-recommends python3 libpython3.11 ca-certificates && \
      rm -rf /var/lib/apt/lists/* )
RUN echo 'optimodel:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'optimodel:x:65532:' >> /etc/group
ENV HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
