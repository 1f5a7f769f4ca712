# Sourced by scripts/test after setup.sh: installs the programs of scripts/config/test-packages that are missing.

missing_test_packages() {
  while read -r program package; do
    case $program in '' | '#'*) continue ;; esac
    # Debian keeps servers in sbin, which is not everybody's PATH.
    command -v "$program" >/dev/null 2>&1 || printf '%s ' "$package"
  done <"$root/scripts/config/test-packages"
}

install_test_packages() {
  PATH="$PATH:/usr/sbin:/sbin"
  export PATH
  wanted=$(missing_test_packages)
  [ -n "$wanted" ] || return 0
  by_hand="Install by hand what the tests run: $wanted"
  command -v apt-get >/dev/null 2>&1 || die "there is no apt-get here. $by_hand"
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "neither root nor sudo. $by_hand"
    as_root=sudo
  fi
  say "installing for the tests: $wanted"
  apt_log=$(mktemp)
  if apt_get install $wanted >"$apt_log" 2>&1 || { apt_get update && apt_get install $wanted; } >>"$apt_log" 2>&1; then
    rm -f "$apt_log"
    return 0
  fi
  cat "$apt_log" >&2
  rm -f "$apt_log"
  die "apt-get failed (above). $by_hand"
}

apt_get() {
  command=$1; shift
  if [ "$command" = install ]; then set -- --yes --no-install-recommends "$@"; fi
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get "$command" "$@"
}
