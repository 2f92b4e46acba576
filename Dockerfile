# syntax=docker/dockerfile:1
# Chandlery runs its TypeScript sources directly: nothing is built, dependencies are installed once.
ARG NODE_IMAGE=node:26-slim

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The image brings its own Node: the npm packages that carry one are left out.
RUN npm ci --omit=dev --omit=optional

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="Chandlery" \
      org.opencontainers.image.description="A pull-through caching OCI registry proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production \
    CHANDLERY_LISTEN=0.0.0.0:5000 \
    CHANDLERY_ADMIN_LISTEN=0.0.0.0:5001 \
    CHANDLERY_DIRECTORY=/var/lib/chandlery \
    NODE_COMPILE_CACHE=/app/.compile-cache
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json LICENSE ./
COPY bin bin
COPY src src
RUN mkdir -p /var/lib/chandlery .compile-cache \
    && chown 65532:65532 /var/lib/chandlery .compile-cache
USER 65532:65532
# Loads every module once, so that no start has to strip types again; the file system may then be read-only.
RUN node bin/chandlery.js --version
VOLUME /var/lib/chandlery
EXPOSE 5000 5001
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:5001/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/bin/chandlery.js"]
CMD ["serve"]
