#!/bin/sh
# Renew requirements.lock: install what pyproject.toml asks for into a fresh environment and write
# down what came. torch and torchvision are pinned here, since they have to fit each other; what
# torch brings for its GPU build it pins itself, exactly, so it isn't repeated.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 torchvision==0.29.1 ".[notebooks,test]"
{
  echo "# Every package with its version, for Python 3.11 and 3.12; renew with \`make lock\`."
  "$folder/venv/bin/python" -m pip list --format=freeze |
    sed 's/+[a-z0-9.]*$//' |
    grep -v -i -E '^(cwd|pip|setuptools|wheel|triton|nvidia-|cuda-)'
} >requirements.lock
