# A checks-only run by hand: a clone, then a container for each command, one after another.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet "$REPOSITORY" "$work/source"
for command in "$INSTALL" "$CODE_QUALITY" "$UNIT_TEST"; do
    "$DOCKER" run --rm --label "$LABEL" --volume "$work/source:/workspace" --workdir /workspace "$IMAGE" \
        sh -euc "$command"
done
