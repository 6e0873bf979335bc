#!/bin/sh
# Replaces the containers of the named services one by one, under load: sh deploy/compose/roll.sh api model
# A new one is started, from the images and settings of now, and is healthy before an old one is stopped. Where it does not
# become healthy, all the others stay. Of the API there must be a proxy in front (docs/compose.md).
set -eu

for service in "$@"; do
    old=$(docker compose ps --quiet "$service")
    count=$(echo "$old" | wc -w)
    for container in $old; do
        echo "Replacing one of $count: $service ..."
        docker compose --progress quiet up --detach --wait --no-deps --no-recreate --scale "$service=$((count + 1))" "$service"
        docker stop "$container" >/dev/null
        docker rm "$container" >/dev/null
    done
done
