# The package, its pinned packages and the notebooks, without CUDA's libraries beyond torch's own:
#   docker build -t cwd . && docker run -it -p 8888:8888 cwd
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /cwd
# packages first: they change less often than the code, and are built once
COPY requirements.lock pyproject.toml ./
RUN python -m venv .venv && .venv/bin/python -m pip install --no-cache-dir -r requirements.lock
COPY . .
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && echo /cwd > .venv/.installed && touch .venv/.installed
EXPOSE 8888
CMD ["make", "lab", "LAB=--ip=0.0.0.0 --no-browser"]
