# A whole pipeline by hand: the checks, a build, a Compose test, and the image into two environments.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet "$REPOSITORY" "$work/source"
cd "$work/source"
tag=$SERVICE:$(git rev-parse HEAD)

for command in "$INSTALL" "$CODE_QUALITY" "$UNIT_TEST"; do
    "$DOCKER" run --rm --label "$LABEL" --volume "$PWD:/workspace" --workdir /workspace "$IMAGE" sh -euc "$command"
done

DOCKER_BUILDKIT=1 "$DOCKER" build --quiet --label "$LABEL" --tag "$tag" .

export CANDIDATE="$tag"
$COMPOSE --project-name "$SERVICE" --file compose.yml up --no-color --exit-code-from tests
$COMPOSE --project-name "$SERVICE" --file compose.yml down --volumes

for environment in staging production; do
    old=$("$DOCKER" container ls --quiet --filter "label=deployed=$SERVICE-$environment")
    new=$("$DOCKER" run --detach --init --label "$LABEL" --label "deployed=$SERVICE-$environment" \
        --env "WARM_UP=$WARM_UP" "$tag")
    address=$("$DOCKER" inspect --format '{{.NetworkSettings.IPAddress}}' "$new")
    until wget --quiet --output-document /dev/null "http://$address:8080/healthz"; do
        sleep 0.1
    done
    if [ -n "$old" ]; then
        "$DOCKER" stop "$old"
        "$DOCKER" container rm "$old"
    fi
done
