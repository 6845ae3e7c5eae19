# A checkout that is kept, brought up to date.
git -C "$SOURCE" fetch --quiet origin main
git -C "$SOURCE" reset --quiet --hard origin/main
git -C "$SOURCE" clean --quiet --force -d -x
