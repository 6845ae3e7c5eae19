# A new checkout.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet --depth 1 "file://$REPOSITORY" "$work/source"
