# Tidemark's command line, and the sample application of docker-compose.yml beside it.
#   docker build -t tidemark .
#   docker run --rm tidemark --help
# better-sqlite3 brings its binary along: nothing is compiled, and no install script has to run.

FROM node:24.21.0-bookworm-slim AS dependencies
WORKDIR /opt/tidemark
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24.21.0-bookworm-slim AS build
WORKDIR /opt/tidemark
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build && chmod 755 dist/cli/main.js

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /opt/tidemark
COPY --from=dependencies /opt/tidemark/node_modules ./node_modules
COPY --from=build /opt/tidemark/dist ./dist
COPY package.json LICENSE ./
COPY sample ./sample
# What is mounted there takes these owners over when it is new.
RUN ln -s /opt/tidemark/dist/cli/main.js /usr/local/bin/tidemark \
  && install -d -o node -g node -m 0750 /srv/app /srv/standby /var/lib/tidemark
USER node
# Where tidemark.yml is looked for.
WORKDIR /etc/tidemark
# Fails when the agent does not answer, or when there is neither an agent nor a log.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["tidemark", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidemark"]
CMD ["--help"]
