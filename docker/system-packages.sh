#!/bin/sh
# Install Debian packages that are missing, as root or with sudo. Usage: system-packages.sh PACKAGE...
set -eu
missing=""
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then run=""; elif command -v sudo >/dev/null; then run="sudo"; else
    echo "These packages are missing and neither root nor sudo is at hand:$missing" >&2
    exit 1
fi
echo "Installing:$missing"
$run apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to split
$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
