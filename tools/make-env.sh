#!/usr/bin/env bash
# Make .env from .env.example with fresh random secrets, readable for its owner only. Usage: tools/make-env.sh [simulated|live]
# A .env that is there is never touched: its secrets belong to data that exists.
set -euo pipefail
cd "$(dirname "$0")/.."
market="${1:-simulated}"

hex() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

case "$market" in
  simulated | live) ;;
  *) echo "make-env: found market '$market'; use simulated or live" >&2; exit 2 ;;
esac
if [ -e .env ] || [ -L .env ]; then
  echo "make-env: .env is there already and stays as it is; remove it yourself if its secrets are no longer needed" >&2
  exit 1
fi

text="$(
  while IFS= read -r line || [ -n "$line" ]; do
    if [ "$market" = live ]; then
      case "$line" in
        COMPOSE_PROFILES=* | TIDEGAUGE_SANDBOX_URL=*) continue ;;
        TIDEGAUGE_MARKET=*) line=TIDEGAUGE_MARKET=live ;;
        TIDEGAUGE_BUDGET_SCALE=*) line=TIDEGAUGE_BUDGET_SCALE=1 ;;
      esac
    fi
    case "$line" in
      AIRFLOW_FERNET_KEY=) printf '%s%s\n' "$line" "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')" ;; # what Fernet asks for
      AIRFLOW_JWT_SECRET=) printf '%s%s\n' "$line" "$(hex 64)" ;; # Airflow wants at least 64 bytes
      TIDEGAUGE_S3_ACCESS_KEY=) printf '%s%s\n' "$line" "$(hex 10)" ;;
      [A-Z]*=) printf '%s%s\n' "$line" "$(hex 32)" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done <.env.example
)"
umask 077
set -o noclobber
printf '%s\n' "$text" >.env
echo "wrote .env for the $market market; the UI's password is AIRFLOW_ADMIN_PASSWORD in it"
