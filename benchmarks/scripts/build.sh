# A build of a checkout that is there already.
DOCKER_BUILDKIT=1 "$DOCKER" build --quiet --label "$LABEL" --label "build=$NUMBER" --tag "$TAG" "$SOURCE"
