# Tidegauge on the official Airflow image: the rooms, and the very packages the tests ran with (docs/adr/0013). Who runs it, and when it is
# healthy, is docker-compose.yml's matter.
FROM apache/airflow:3.3.2-python3.11

ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegauge" \
      org.opencontainers.image.description="Hourly sentiment, fragility and stress of crypto derivatives, every value traceable to the bytes it came from" \
      org.opencontainers.image.version="0.3.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="Tidegauge" \
      org.opencontainers.image.base.name="apache/airflow:3.3.2-python3.11"

# Empty means off: an Airflow that may not keep its bytecode starts three times slower.
ENV PYTHONDONTWRITEBYTECODE=""

# Everything below is written by root and only read by the user that runs it.
USER root
WORKDIR /opt/tidegauge

# An environment of our own beside the base image's: exactly the lock, without the packages that requirements.in lists below "# Tests".
COPY requirements.in requirements.lock ./
RUN awk 'FNR == NR { if (/^# Tests/) tests = 1; else if (tests) { sub(/[[=<>].*/, ""); left_out[$0] = 1 }; next } \
         /^[a-z0-9]/ { name = $0; sub(/[[=].*/, "", name); wanted = !(name in left_out) } \
         wanted' requirements.in requirements.lock > runtime.lock \
    && python -m venv venv \
    && venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet \
         --require-hashes --only-binary=:all: --no-deps --compile -r runtime.lock \
    && venv/bin/python -m pip check

ENV VIRTUAL_ENV=/opt/tidegauge/venv \
    PATH=/opt/tidegauge/venv/bin:${PATH} \
    PYTHONPATH=/opt/tidegauge \
    NUMBA_CACHE_DIR=/tmp/numba \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/tidegauge/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/tidegauge/plugins

COPY transforms transforms
COPY expectations expectations
COPY sandbox sandbox
COPY plugins plugins
COPY dags dags
RUN python -m compileall -q transforms expectations sandbox plugins dags \
    && install -d -o 50000 -g 0 -m 0775 var

USER 50000:0
