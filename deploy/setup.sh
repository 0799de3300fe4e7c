#!/bin/sh
# `make setup`: install everything that Devicestat needs on this machine. Safe to run again.
#
# System packages, if they are missing: Mosquitto with its clients, curl, and on Debian and Ubuntu Python's venv module.
# In .venv: the packages of requirements.lock, with their hashes checked, and the project itself.
# In query_api/dashboard/node_modules: the packages of package-lock.json, with their hashes checked, by the npm in .venv.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# On Debian, /usr/sbin is only in root's PATH.
have() { PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin" command -v "$1" >/dev/null; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.11 or later is needed, but not in PATH." \
        "Debian, Ubuntu: apt-get install python3 python3-venv. macOS: brew install python"
}

# apt_install PACKAGE...: install as root or with sudo; fail without either.
apt_install() {
    if [ "$(id -u)" -eq 0 ]; then
        as_root=""
    elif have sudo; then
        as_root="sudo"
    else
        fail "run as root: apt-get install $*"
    fi
    say "installing system packages: $*"
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*: install it by hand, then run make setup again"
}

install_missing_programs() {
    new_service=""
    set --
    if ! have mosquitto; then
        new_service=yes
        set -- mosquitto
    fi
    have mosquitto_pub || set -- "$@" mosquitto-clients
    have curl || set -- "$@" curl
    [ $# -gt 0 ] || return 0
    if have apt-get; then
        apt_install "$@"
        if [ "$new_service" ]; then stop_new_service; fi
    elif have brew; then
        say "installing with Homebrew: mosquitto"
        brew install --quiet mosquitto
    else
        fail "missing: $*. Install them with your package manager, then run make setup again"
    fi
}

# The package starts a broker on port 1883, which `devicestat up` needs for its own.
stop_new_service() {
    if [ -d /run/systemd/system ] && systemctl is-active --quiet mosquitto; then
        say "stopping and disabling the mosquitto service that this installation started"
        $as_root systemctl disable --quiet --now mosquitto
    elif [ -x /etc/init.d/mosquitto ] && /etc/init.d/mosquitto status >/dev/null 2>&1; then
        say "stopping the mosquitto service that this installation started"
        $as_root /etc/init.d/mosquitto stop >/dev/null
    fi
}

make_venv() {
    if [ -x .venv/bin/pip ] && new_enough .venv/bin/python; then
        return
    fi
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        have apt-get || fail "$python has no venv module: install it, then run make setup again"
        apt_install python3-venv
        "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install "$("$python" -c \
            'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

# No package may run scripts. The lock that is installed is kept beside the packages.
install_npm_packages() {
    dashboard=query_api/dashboard
    if cmp -s $dashboard/package-lock.json $dashboard/node_modules/.lock; then return; fi
    say "installing npm packages into $dashboard/node_modules"
    PATH="$PWD/.venv/bin:$PATH" npm --prefix $dashboard ci --ignore-scripts --silent ||
        fail "npm could not install the packages of $dashboard/package-lock.json: its message is above"
    cp $dashboard/package-lock.json $dashboard/node_modules/.lock
}

install_missing_programs
make_venv
say "installing Python packages into .venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/pip install --quiet --require-hashes -r requirements.lock
install_npm_packages
.venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
say "done"
