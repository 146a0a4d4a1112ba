# What provision looks at and does on a Debian or Ubuntu server, as root. lib/session.ts sends this file behind agent.sh; each
# function is one step of the plan and can be repeated. docs/provision.md has the same commands for doing it by hand.

# For the sake of programs whose output is read, and of those that only root has.
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"

# --- looking -----------------------------------------------------------------------------------------------------------

# Prints each fact as a line: a name, and in base64 what the command says, which is nothing where it fails or is missing.
fact() {
  local name=$1
  shift
  printf '%s %s\n' "$name" "$({ "$@" 2>/dev/null || true; } </dev/null | base64 -w 0)"
}

# observe USER DIRECTORY
observe() {
  local user=$1 directory=$2
  fact system cat /etc/os-release
  fact architecture dpkg --print-architecture
  fact unfinished dpkg --audit
  fact packages apt-cache policy docker.io docker-ce docker-cli docker-compose docker-compose-v2 docker-compose-plugin ufw unattended-upgrades
  fact program command -v docker
  fact version docker --version
  fact engine timeout 20 docker info --format '{{json .}}'
  fact compose timeout 20 docker compose version --short
  fact enabled engine_is_enabled
  fact configuration cat /etc/docker/daemon.json
  fact apparmor apparmor_is_missing
  fact account getent passwd "$user"
  fact password password_of "$user"
  fact groups id --name --groups "$user"
  fact keys cat "$(home_of "$user")/.ssh/authorized_keys"
  fact sshd sshd -T -C "user=$user,host=localhost,addr=127.0.0.1"
  fact connection echo "${SSH_CONNECTION:-}"
  fact directory stat --format '%U %a %F' "$directory"
  fact certificates stat --format '%U %a %F' "$directory/certificates"
  fact firewall ufw status
  fact rules ufw show added
  fact cron command -v crontab
  fact crontab crontab -u "$user" -l
  fact upgrades apt-config dump APT::Periodic::Unattended-Upgrade
}

# Without lists of packages nobody knows what could be installed. Only the lists change.
update_package_lists() {
  apt_get update
}

home_of() { getent passwd "$1" | cut -d : -f 6; }

# Says whether there is one, never what it is.
password_of() {
  case $(getent shadow "$1" | cut -d : -f 2) in
    '!' | '!!' | '!*') echo locked ;;
    *) echo other ;;
  esac
}

# A kernel with AppArmor and no program to load profiles with: no container would start.
apparmor_is_missing() {
  [ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ] && ! command -v apparmor_parser >/dev/null && echo yes
}

has_systemd() { [ -d /run/systemd/system ]; }

engine_is_enabled() {
  if has_systemd; then systemctl is-enabled docker.service; else ls /etc/rc2.d/S*docker; fi
}

# --- packages ----------------------------------------------------------------------------------------------------------

# Runs a program that changes packages. Its output goes to a file, because a connection that is lost must not stop it half-way;
# signals get back their usual meaning, which the scripts of packages rely on.
# Exit code 75: another program is at it, as in the first minutes of a new server. Try again later.
change_packages() {
  local code=0
  env --default-signal=HUP,INT,PIPE DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    timeout --kill-after=30 900 "$@" </dev/null >"$scratch/packages" 2>&1 || code=$?
  [ $code = 0 ] && return 0
  if grep --quiet --extended-regexp 'Could not get lock|lock was locked by' "$scratch/packages"; then
    grep --max-count=1 --only-matching --extended-regexp '(held|locked) by .*' "$scratch/packages" >&2 || true
    return 75
  fi
  tail -n 20 "$scratch/packages" >&2
  return 1
}

apt_get() {
  change_packages apt-get --yes --no-install-recommends -o Acquire::Retries=3 -o Acquire::http::Timeout=30 \
    -o DPkg::Lock::Timeout=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# After a power cut, or a reboot, in the middle of an installation.
finish_packages() {
  change_packages dpkg --force-confdef --force-confold --configure -a
}

# install_packages NAME…
install_packages() {
  apt_get update
  apt_get install "$@"
}

# --- the engine --------------------------------------------------------------------------------------------------------

# The new /etc/docker/daemon.json comes on stdin.
write_engine_configuration() {
  local file=/etc/docker/daemon.json
  mkdir -p /etc/docker
  cat >"$file.new"
  if command -v dockerd >/dev/null; then dockerd --validate --config-file "$file.new" >&2; fi
  if [ -e "$file" ]; then cp --preserve "$file" "$file.before-provision"; fi
  mv "$file.new" "$file"
}

start_engine() {
  if has_systemd; then
    systemctl enable --now docker.service >&2
  else
    update-rc.d docker defaults >&2
    engine_answers || env --default-signal=HUP,INT,PIPE service docker start >&2
  fi
  wait_for_engine
}

# A reload turns live-restore on without touching a container. Only then does a restart leave them running.
restart_engine() {
  kill -HUP "$(cat /run/docker.pid)"
  wait_until 10 live_restore_is_on
  if has_systemd; then systemctl restart docker.service >&2; else env --default-signal=HUP,INT,PIPE service docker restart >&2; fi
  wait_for_engine
}

live_restore_is_on() { [ "$(docker info --format '{{.LiveRestoreEnabled}}' 2>/dev/null)" = true ]; }
engine_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

wait_for_engine() {
  wait_until 60 engine_answers && return 0
  echo "the engine does not answer within 60 s:" >&2
  if has_systemd; then journalctl --unit docker.service --no-pager --lines 20 >&2; else tail -n 20 /var/log/docker.log >&2; fi
  return 1
}

# wait_until SECONDS COMMAND…
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

# --- user and directory ------------------------------------------------------------------------------------------------

# `*` is a password that nobody can type. useradd's own `!` is a locked account, which sshd without PAM refuses altogether.
add_user() {
  useradd --create-home --shell /bin/bash "$1"
  allow_keys "$1"
}

allow_keys() { usermod --password '*' "$1"; }
give_shell() { usermod --shell /bin/bash "$1"; }
let_use_docker() { usermod --append --groups docker "$1"; }

# Public keys on stdin, added behind those that are there. sshd insists on these owners and modes.
authorize_keys() {
  local user=$1 home group file
  home=$(home_of "$user")
  group=$(id --name --group "$user")
  file=$home/.ssh/authorized_keys
  install -d -m 700 -o "$user" -g "$group" "$home/.ssh"
  # The file may end without a line break.
  { if [ -e "$file" ]; then sed -e '$a\' "$file"; fi; cat; } >"$file.new"
  chown "$user:$group" "$file.new"
  chmod 600 "$file.new"
  mv "$file.new" "$file"
}

# own_directory USER DIRECTORY    Itself, not what is in it.
own_directory() {
  install -d -m 755 -o "$1" -g "$(id --name --group "$1")" "$2"
}

# --- what runs by itself, and who gets in ------------------------------------------------------------------------------

# allow_ports PORT…
allow_ports() {
  local port
  for port in "$@"; do ufw allow "$port/tcp" >&2; done
}

enable_firewall() { ufw --force enable >&2; }

# A line of the user's crontab on stdin, added behind those that are there.
add_cron_line() {
  local line
  line=$(cat)
  { crontab -u "$1" -l 2>/dev/null || true; printf '%s\n' "$line"; } >"$scratch/crontab"
  crontab -u "$1" "$scratch/crontab"
}

enable_upgrades() {
  local file=/etc/apt/apt.conf.d/20auto-upgrades
  printf '%s\n' 'APT::Periodic::Update-Package-Lists "1";' 'APT::Periodic::Unattended-Upgrade "1";' >"$file.new"
  mv "$file.new" "$file"
}

# check_user USER DIRECTORY    As that user: it may use Docker, and write where releases go. Prints Compose's version.
check_user() {
  runuser --user "$1" -- sh -c 'docker version >/dev/null && test -w "$0" && docker compose version --short' "$2"
}
