# Many checks-only runs by hand, $AT_ONCE of them at a time. $REFERENCES holds a line "<repository> <branch>" for each.
one=$(mktemp)
trap 'rm -f "$one"' EXIT
cat >"$one" <<'END'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet --branch "$2" "$1" "$work/source"
for command in "$INSTALL" "$CODE_QUALITY" "$UNIT_TEST"; do
    "$DOCKER" run --rm --label "$LABEL" --volume "$work/source:/workspace" --workdir /workspace "$IMAGE" \
        sh -euc "$command"
done
END

printf '%s\n' "$REFERENCES" | xargs --max-lines=1 --max-procs="$AT_ONCE" sh -eu "$one"
