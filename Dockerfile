# The dashboard in a container, with PyTorch's CPU build:
#
#     docker build --build-arg TORCH_INDEX_URL=INDEX --tag quantviz .
#     docker run --rm --read-only --tmpfs /tmp --volume quantviz:/cache --publish 8501:8501 quantviz
#
# INDEX is the index of CPU builds that the selector at pytorch.org shows for Linux, Pip and CPU. docs/howto/serve.md says more.

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE app.py ./
COPY .streamlit .streamlit
COPY pages pages
COPY quantviz quantviz
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG TORCH_INDEX_URL
COPY requirements.lock /tmp/requirements.lock
RUN test -n "$TORCH_INDEX_URL" || { echo "Name the index of PyTorch's CPU builds: --build-arg TORCH_INDEX_URL=..." >&2; exit 1; }
# First alone: the same versions from the usual index are the CUDA builds, of 6 GB.
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX_URL" $(grep -E '^(torch|torchvision)==' /tmp/requirements.lock) \
    && pip install --no-cache-dir --requirement /tmp/requirements.lock
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -r /tmp/wheels /tmp/requirements.lock \
    && useradd --uid 1000 --create-home visitor && install --directory --owner=visitor /cache

# All that is written lies in /cache and /tmp, so that the root may be read-only.
ENV QUANTVIZ_CACHE=/cache/quantviz \
    TORCH_HOME=/cache/torch \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
USER visitor
VOLUME /cache
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
ENTRYPOINT ["quantviz", "serve", "--address", "0.0.0.0", "--public"]
