# The requirements of one image, installed on the host from a hash-locked file and copied from the build context "site".
ARG BASE
FROM ${BASE}
COPY --from=site / /opt/site/
ENV PYTHONPATH=/opt/optimodel:/opt/site
