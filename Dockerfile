# syntax=docker/dockerfile:1
# Chandlery's image, for linux/amd64 and linux/arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 .
# What is not the builder's own architecture runs there too, emulated: it needs binfmt_misc with QEMU, as Docker
# Desktop has it; elsewhere `docker run --privileged --rm tonistiigi/binfmt --install arm64`.
# podman and buildah keep the HEALTHCHECK with --format docker alone: OCI's format has no place for it.
#
# Node runs the TypeScript as it stands, so nothing is built; two bases make it small and shut. Node's own
# image, with npm and a shell, serves here only. What runs is distroless "cc": the C library, libstdc++, CA
# certificates, time zones and a user 65532, and neither shell nor package manager. It lacks libatomic, which
# Node has needed since 25. Both are the same Debian release, so that the libraries fit each other.

# The version that package.json has for node-linux-* (a test holds them together).
ARG NODE_IMAGE=docker.io/library/node:26.10.0-trixie-slim
# It has no numbered tags; built again, the image has its security updates.
ARG BASE_IMAGE=gcr.io/distroless/cc-debian13:nonroot

FROM ${NODE_IMAGE} AS app
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The image brings its own Node: the npm packages that carry one are left out. Behind an npm mirror or a
# proxy that signs: --secret id=npmrc,src=$HOME/.npmrc --secret id=ca,src=ca.pem, and cafile=/run/secrets/ca
# in that .npmrc.
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    npm ci --omit=dev --omit=optional --ignore-scripts
COPY LICENSE ./
COPY bin bin
COPY src src
# Whoever runs it may read it, also where the clone was made by somebody careful (umask 077).
RUN chmod -R a=rX .
# What is not under /app: libatomic (the directory is named after the architecture) and the cache directory. A
# volume that is empty takes over its owner and mode; group 0 is what OpenShift gives the users it makes up.
RUN mkdir -p /more/usr/lib /data/chandlery .compile-cache \
    && cd /usr/lib && cp -L --parents *-linux-gnu/libatomic.so.1 /more/usr/lib/ && cd /app \
    && chown 65532:0 /data/chandlery && chmod 0775 /data/chandlery \
    && chown 65532:0 .compile-cache
# One start, to the end, keeps what Node makes of every module: later starts need not strip types again,
# which saves half their time and 20 MiB, and needs no file that can be written. It holds for this user,
# version and kind of CPU (an emulated one is another); with any other, everything works as it does without.
ENV NODE_COMPILE_CACHE=/app/.compile-cache
USER 65532:0
RUN log=$(mktemp) && { node bin/chandlery.js serve --directory "$(mktemp -d)" \
        --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 > "$log" & } \
    && timeout 120 sh -ec 'until grep -q "\"msg\":\"ready\"" "$0"; do kill -0 "$1"; sleep 0.1; done' "$log" $! \
    && kill $! && wait $! && rm "$log"
USER 0:0
RUN chown -R 0:0 .compile-cache && chmod -R a=rX .compile-cache

FROM ${BASE_IMAGE}
COPY --from=app /usr/local/bin/node /usr/local/bin/node
COPY --from=app /more/ /
COPY --from=app --chown=65532:0 /data/ /var/lib/
COPY --from=app /app /app
ENV NODE_ENV=production \
    NODE_COMPILE_CACHE=/app/.compile-cache \
    CHANDLERY_LISTEN=0.0.0.0:5000 \
    CHANDLERY_ADMIN_LISTEN=0.0.0.0:5001 \
    CHANDLERY_DIRECTORY=/var/lib/chandlery
WORKDIR /app
USER 65532:65532
VOLUME /var/lib/chandlery
EXPOSE 5000 5001
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["/usr/local/bin/node", "/app/bin/healthcheck.js"]
ENTRYPOINT ["/usr/local/bin/node", "/app/bin/chandlery.js"]
CMD ["serve"]

# Whoever publishes the image says so: --build-arg VERSION=… REVISION=$(git rev-parse HEAD) SOURCE=https://…
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Chandlery" \
      org.opencontainers.image.description="A pull-through caching OCI registry proxy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
