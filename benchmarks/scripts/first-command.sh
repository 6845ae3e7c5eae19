# One container; $JOIN is how it comes by its network.
"$DOCKER" run --rm --init --label "$LABEL" $JOIN "$IMAGE" sh -euc "$COMMAND"
