# The image of canspan: one static binary and nothing else, for linux/amd64, arm64, arm/v7 and arm/v6.
#
#   docker build -t canspan .
#   docker buildx build --platform linux/amd64,linux/arm64,linux/arm/v7,linux/arm/v6 -t REGISTRY/canspan --push .
#
# The compiler runs on the machine's own architecture, whatever the image is for, so no emulation is needed.
# Binaries made before take the place of the first stage, which is then neither run nor fetched:
#
#   docker build --build-context build=DIR -t canspan .         with DIR/linux/amd64/canspan and so on
#
# scripts/build-image does that, and without BuildKit, too.

FROM --platform=$BUILDPLATFORM docker.io/library/rust:1-trixie AS build
ARG TARGETPLATFORM
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    set -e; \
    case "$TARGETPLATFORM" in \
        linux/amd64) target=x86_64-unknown-linux-musl ;; \
        linux/arm64) target=aarch64-unknown-linux-musl ;; \
        linux/arm/v7) target=armv7-unknown-linux-musleabihf ;; \
        linux/arm/v6) target=arm-unknown-linux-musleabihf ;; \
        *) echo "canspan has no build for $TARGETPLATFORM" >&2; exit 1 ;; \
    esac; \
    scripts/build-static "$target"; \
    install -D "target/$target/release/canspan" "/$TARGETPLATFORM/canspan"

FROM scratch
ARG TARGETPLATFORM
COPY --from=build /$TARGETPLATFORM/canspan /canspan
# Nobody: serve, dump, send and status need no privilege. Only --create does: run it as root with no
# capability but NET_ADMIN, as compose.yml shows.
USER 65534:65534
EXPOSE 22677
ENTRYPOINT ["/canspan"]
