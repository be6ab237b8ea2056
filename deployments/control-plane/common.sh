# shellcheck shell=sh
# Read by gcp.sh and azure.sh: the first-start file with its names, and a question before each command.
here=$(cd "$(dirname "$0")" && pwd)
version=${DRILLYARD_VERSION:-main}
source=${DRILLYARD_SOURCE:?set DRILLYARD_SOURCE to the address of the git repository that the machine clones}

plain() { # NAME VALUE PATTERN
  printf '%s' "$2" | grep -Eqx "$3" || { echo "$1: '$2' is not of the form $3" >&2; exit 2; }
}

first_start() { # SITE MLFLOW_SITE STORE: prints the path of the file
  plain "site" "$1" '[a-z0-9.-]+'
  plain "MLflow's site" "$2" '[a-z0-9.-]+'
  plain "store" "$3" '(gs|az)://[A-Za-z0-9._/-]+'
  plain "DRILLYARD_VERSION" "$version" '[A-Za-z0-9._/-]+'
  plain "DRILLYARD_SOURCE" "$source" 'https://[A-Za-z0-9._/-]+'
  made=$(mktemp)
  sed -e "s|@SITE@|$1|" -e "s|@MLFLOW_SITE@|$2|" -e "s|@STORE@|$3|" \
    -e "s|@VERSION@|$version|" -e "s|@SOURCE@|$source|" "$here/cloud-init.yaml" > "$made"
  echo "$made"
}

run() { # COMMAND...: shows it, asks, runs it
  echo "+ $*"
  if [ "${yes:-}" != 1 ]; then
    printf 'run this? [y/N] '
    read -r answer || answer=
    [ "$answer" = y ] || { echo "nothing more was made" >&2; exit 1; }
  fi
  "$@"
}
