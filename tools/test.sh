#!/usr/bin/env bash
# The whole suite. Installs Chromium for the browser tests where it can; says what it passes over and why.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Chromium for the browser tests"
    (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 || echo "Chromium could not be installed: the browser tests will be skipped"
  else
    echo "no Chromium: the browser tests will be skipped (apt-get install chromium)"
  fi
fi
if [ -d ../shared/recordings/series ]; then
  echo "recordings: found in ../shared, tests on real data run"
else
  echo "recordings: no ../shared/recordings here, tests on real data are skipped"
fi
export PYTHONPATH=.
if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
# Two halves at once, of about the same length: what starts Airflow and a browser mostly waits; the rest mostly computes, and after it come the
# tests that need the object store alone.
log=.venv/tests-beside.log
lake=(tests/integration/test_{bad_input,quarantine,suspecting,delisted,republished}.py)
beside() {
  local computing=0 storing=0
  .venv/bin/python -m pytest -m "not stack and not browser" || computing=$?
  .venv/bin/python -m pytest -m "stack or browser" "${lake[@]}" || storing=$?
  return $(( computing > storing ? computing : storing ))
}
beside >"$log" 2>&1 &
rest=$!
with=0 without=0
.venv/bin/python -m pytest -m "stack or browser" "${lake[@]/#/--ignore=}" || with=$?
wait "$rest" || without=$?
echo "--- what ran beside ---"
cat "$log"
exit $(( with > without ? with : without ))
