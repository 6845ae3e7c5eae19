# A container that writes to a file, and a reader that copies the file as it grows; no redaction, no time stamps.
# $READER takes the id of the writing process and the file.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/out"

"$DOCKER" run --rm --label "$LABEL" --volume "$work:/spool" "$IMAGE" sh -euc "($COMMAND) >/spool/out 2>&1" &
$READER "$!" "$work/out" >"$work/log"
[ "$(wc -c <"$work/log")" = "$BYTES" ]
