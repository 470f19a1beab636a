# Build with any tool that reads Dockerfiles: docker build -t session-sidecar . (or buildah build …).
# docs/deployment.md says how a release pins the base by its digest.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/sidecar && python -m venv --without-pip /opt/tools
WORKDIR /src
# The libraries change less often than the code, so they are a layer of their own.
COPY requirements.lock requirements-isal.lock requirements-otel.lock requirements-build.lock ./
RUN python -m pip --python /opt/sidecar/bin/python install --quiet --no-compile \
        --only-binary :all: --require-hashes -r requirements.lock
RUN python -m pip --python /opt/tools/bin/python install --quiet \
        --only-binary :all: --require-hashes -r requirements-build.lock
# otel: with what `tracing` needs. isal: compresses in a fifth of the time.
ARG EXTRA=""
RUN [ -z "$EXTRA" ] || python -m pip --python /opt/sidecar/bin/python install --quiet --no-compile \
        --only-binary :all: --require-hashes -r "requirements-$EXTRA.lock"
COPY pyproject.toml README.md LICENSE ./
COPY sidecar ./sidecar
# The root file system may be read-only at run time, so the bytecode is made here. It is not checked
# against the sources, which cannot change: that is faster to start.
RUN /opt/tools/bin/python -m hatchling build -t wheel -d /tmp/dist \
    && python -m pip --python /opt/sidecar/bin/python install --quiet --no-compile --no-deps /tmp/dist/*.whl \
    && /opt/sidecar/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sidecar/lib
# What is in it, as CycloneDX: the same input gives the same file.
RUN /opt/tools/bin/cyclonedx-py environment --output-reproducible -o /opt/sidecar/sbom.cdx.json \
        /opt/sidecar/bin/python

FROM python:3.13-slim
# What a release knows of itself.
ARG SOURCE="" REVISION="" BASE_DIGEST=""
LABEL org.opencontainers.image.title="session-sidecar" \
      org.opencontainers.image.description="A reverse-proxy sidecar that owns the session, so that frontends need not." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim" \
      org.opencontainers.image.base.digest="$BASE_DIGEST"
COPY --from=build /opt/sidecar /opt/sidecar
# The base image comes without bytecode of the standard library; this makes that of what is imported.
RUN ["/opt/sidecar/bin/python", "-c", "import http.client, sidecar.app, sidecar.cli, sidecar.health, sidecar.core.config"]
ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY config/sidecar.yaml /etc/sidecar/sidecar.yaml
# Numeric, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asks the admin listener at its default address. It reads no configuration, which may have been broken since the start.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["sidecar", "health", "--admin", "127.0.0.1:9090"]
ENTRYPOINT ["sidecar"]
CMD ["run", "-c", "/etc/sidecar/sidecar.yaml"]
