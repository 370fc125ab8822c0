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
ENV NODE_COMPILE_CACHE=/tmp/outrider-compile-cache OUTRIDER_DATA_DIR=/data
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 50001 3500 9090
ENTRYPOINT ["node", "/app/dist/outrider.js"]
CMD ["run", "--listen-address", "0.0.0.0"]
