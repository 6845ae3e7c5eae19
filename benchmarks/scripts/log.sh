# A container that writes to a file, and a reader that copies the file as it grows; no redaction, no time stamps.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/out"

"$DOCKER" run --rm --label "$LABEL" --volume "$work:/spool" "$IMAGE" sh -euc "($COMMAND) >/spool/out 2>&1" &
tail --pid="$!" --sleep-interval=0.01 --bytes=+1 --follow "$work/out" >"$work/log"
[ "$(wc -c <"$work/log")" = "$BYTES" ]
