# The image has the bundle, and runs as a user without rights.
FROM node:26-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build

FROM node:26-slim
WORKDIR /app
COPY --from=build /build/dist /app/dist
ENV NODE_COMPILE_CACHE=/app/compiled OUTRIDER_DATA_DIR=/data
RUN mkdir -m 1777 /app/compiled && mkdir /data && chown node:node /data
USER node
# What is compiled now is not at every start.
RUN ["node", "/app/dist/outrider.js", "--version"]
VOLUME /data
EXPOSE 50001 3500 9090
# The flag: fewer collections while it starts.
ENTRYPOINT ["node", "--min-semi-space-size=4", "/app/dist/outrider.js"]
CMD ["run", "--listen-address", "0.0.0.0"]
