# shellcheck shell=bash disable=SC2154 # names of lib.sh and arrangements.sh
# The image. Sourced by tests/containers/checks.

# Of each sort one: a build takes its time.
platforms=(linux/amd64 linux/arm/v6)

# The settings of an image.
settings() {
    docker image inspect -f '{{.Os}}/{{.Architecture}}/{{.Variant}} {{.Config.User}} {{.Config.Entrypoint}} {{.Config.ExposedPorts}} {{.Size}}' "$1"
}

# The files of an image, but for those the engine puts into every container.
files() {
    local container
    container=$(docker create "$1")
    docker export "$container" | tar -t | grep -v -E '^(dev|etc|proc|sys)/|^\.dockerenv$'
    docker cp -q "$container:/canspan" - | tar -xO | sha256sum
    docker rm "$container" >/dev/null
}

# All stages but the first, which needs a registry: the binaries are given.
image_by_dockerfile() {
    local platform size
    for platform in "${platforms[@]}"; do
        docker buildx build -q --load --platform "$platform" --build-context build=/shared/binaries \
            -t "dockerfile:${platform//\//-}" . >/dev/null
    done
    size=$(docker image inspect -f '{{.Size}}' dockerfile:linux-amd64)
    same 'bytes of the image' "$(stat -c %s /shared/binaries/linux/amd64/canspan)" "$size"
    same 'files in the image' "canspan
$(sha256sum </shared/binaries/linux/amd64/canspan)" "$(files dockerfile:linux-amd64)"
    echo "    the image has $size bytes"
    holds 'the version' "$(docker run --rm "${unprivileged[@]}" dockerfile:linux-amd64 --version)" 'canspan '
}

image_by_import() {
    local platform
    scripts/build-image -t imported -b /shared/binaries "${platforms[@]}" | sed 's/^/    /'
    for platform in "${platforms[@]}"; do
        short=${platform#linux/}
        same "the image for $platform" "$(settings "dockerfile:${platform//\//-}")" "$(settings "imported:${short/\//}")"
    done
    same 'files in the image' "$(files dockerfile:linux-amd64)" "$(files imported:amd64)"
}
