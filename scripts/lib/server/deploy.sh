# What a deploy or a rollback does on the server: each function is one step, called by lib/deployment.ts through agent.sh.
# Every one may be repeated. `directory` and `project` come from agent.sh; `set -euo pipefail` holds in all of them.

# --- what is there -----------------------------------------------------------------------------------------------------

# observe IMAGE AGAIN      stdin: a tar with the files of the wanted release, kept in memory until keep_release; or none, and
# the wanted files are those of release AGAIN
# Everything that the plan depends on, asked all at once. Prints a line for each: NAME EXITCODE BASE64(stdout) BASE64(stderr).
observe() {
  local name present
  rm -rf "$scratch/wanted" "$scratch/facts"
  mkdir "$scratch/facts"
  if [ "$2" = - ]; then
    mkdir "$scratch/wanted"
    tar -x -C "$scratch/wanted"
  else
    want_again "$2"
  fi
  # Asked once for all of the below: programs to start are what this costs.
  if ! present=$(list_project 2>/dev/null); then unset present; fi
  fact directory check_directory
  fact engine docker info --format '{{.ServerVersion}} {{.Architecture}} {{.DockerRootDir}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}'
  fact containers list_containers
  fact upstream cat "$directory/nginx/upstream/production.conf"
  fact serving ask_nginx release
  fact environment grep -E '^(COMPOSE_PROFILES|IMAGE_BLUE|IMAGE_GREEN)=' "$directory/.env"
  fact records tail -n 1000 "$directory/releases.jsonl"
  fact record_count count_records
  fact kept ls "$directory/releases"
  fact disk disk_space
  fact certificate certificate
  fact clock date +%s
  fact images docker images --no-trunc --quiet
  fact applied applied_migrations
  fact services wanted_services
  fact image describe_image "$1"
  wait
  for name in "$scratch"/facts/*.code; do
    name=${name%.code}
    printf '%s %s %s %s\n' "${name##*/}" "$(cat "$name.code")" "$(base64 -w 0 "$name.out")" "$(base64 -w 0 "$name.err")"
  done
}

fact() {
  local into=$scratch/facts/$1
  shift
  (set +e; within 30 "$@" >"$into.out" 2>"$into.err" </dev/null; echo $? >"$into.code") &
}

# within SECONDS WORDS…     bounded where it is a program; our own functions bound what they start themselves
within() {
  local seconds=$1
  shift
  if [ "$(type -t "$1")" = function ]; then "$@"; else timeout -k 5 "$seconds" "$@"; fi
}

check_directory() {
  [ -d "$directory" ] || { echo "there is no $directory" >&2; return 1; }
  [ -w "$directory" ] || { echo "$directory does not belong to $(id -un)" >&2; return 1; }
}

list_containers() {
  local ids
  ids=$(of_project)
  [ -z "$ids" ] || timeout 30 docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}	{{.State.Status}}	{{with .State.Health}}{{.Status}}{{else}}none{{end}}	{{.Config.Image}}	{{.Image}}	{{.RestartCount}}	{{index .Config.Labels "dbops.release"}}' $ids
}

# ID SERVICE VALUES of each container, stopped ones too, without those of `docker compose run`. VALUES is the --env-file that it
# was made with.
list_project() {
  timeout 30 docker ps --all --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False \
    --format '{{.ID}} {{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.project.environment_file"}}'
}

# of_project [SERVICE]     the ids alone
of_project() {
  { if [ -n "${present+set}" ]; then echo "$present"; else list_project; fi; } | awk -v service="${1:-}" '$2 != "" && (service == "" || $2 == service) { print $1 }'
}

# container SERVICE      its id, remembered: each question to Docker costs a twentieth of a second
container() {
  local known=$scratch/container.$1 id
  if [ ! -s "$known" ]; then
    id=$(of_project "$1" | head -n 1)
    echo "$id"
    # Not worth a failure where the memory is full.
    echo "$id" >"$known" 2>/dev/null || rm -f "$known"
  else
    cat "$known"
  fi
}

# To be called before anything that may give a service another container.
forget_containers() {
  rm -f "$scratch"/container.*
}

# nginx' upstream file is the truth about what serves: its stamp is "8 green live".
live_number() {
  sed -n 's/^ *default "\([0-9]*\) .*/\1/p' "$directory/nginx/upstream/production.conf" 2>/dev/null || true
}

ask_nginx() {
  in_nginx wget -q -T 3 -O - "http://127.0.0.1:8081/$1"
}

in_nginx() {
  timeout -k 5 "${seconds:-15}" docker exec -i "$(container nginx)" "$@"
}

# Bytes that are free: where the project lies, and on every disk, for Docker's is one of them.
disk_space() {
  df --output=avail --block-size=1 "$directory" | tail -n 1
  { timeout 10 df --local --output=avail,target --block-size=1 2>/dev/null || true; } | tail -n +2
}

# "missing", "unusable", or when the one that visitors get ends; nothing where that cannot be seen
# nginx is asked first, because the file may be one that only nginx can read. To load no authorities makes it three times as fast.
certificate() {
  local file=$directory/certificates/fullchain.pem port answer
  [ -e "$file" ] || { echo missing; return; }
  port=$(sed -n "s/^PRODUCTION_HTTPS_PORT='*\([0-9]*\).*/\1/p" "$directory/.env" 2>/dev/null || true)
  answer=$(timeout 5 openssl s_client -no-CAfile -no-CApath -no-CAstore -connect "127.0.0.1:${port:-443}" </dev/null 2>&1)
  case $answer in
    *'; NotAfter: '*) answer=${answer#*; NotAfter: }; echo "${answer%%$'\n'*}" ;;
    *'alert internal error'*) echo unusable ;;
    *) timeout 5 openssl x509 -noout -enddate -in "$file" | cut -d = -f 2 ;;
  esac
}

# After a boot Postgres may need some seconds before it answers.
applied_migrations() {
  local end=$((SECONDS + 15))
  until in_postgres 'select version from schema_migrations order by version' 2>"$scratch/applied"; do
    if [ $SECONDS -lt $end ] && grep -qE 'starting up|not yet accepting|Connection refused' "$scratch/applied"; then
      sleep 0.25
    else
      cat "$scratch/applied" >&2
      return 1
    fi
  done
}

in_postgres() {
  timeout -k 5 20 docker exec "$(container postgres)" \
    sh -c 'psql -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -qtAc "$1"' sh "$1"
}

# Each service of the wanted release: NAME same|changed image|-, which is whether its container has this definition, and whether
# RELEASE_IMAGE is in it. Fails if Compose does not accept it.
# Kept with the release as NAME RELEASE image|-: its container has been compared, and was made for RELEASE. "gone": not in this release.
wanted_services() {
  local live known service release image
  local -A made=() others=()
  live=$(live_number)
  known=$directory/releases/$live
  look_at_containers
  if [ -e "$known/services" ] && [ ${#others[@]} = 0 ] && same_definitions "$known" "$scratch/wanted"; then
    while read -r service release image; do
      [ "$image" = gone ] || say_service same
    done <"$known/services"
  else
    compare_services || return
  fi
  for service in "${!made[@]}"; do echo "$service ${made[$service]} gone" >>"$scratch/wanted/services"; done
}

say_service() {
  echo "$service $1 $image"
  echo "$service ${made[$service]:--} $image" >>"$scratch/wanted/services"
  unset "made[$service]"
}

# Sets `made`: for which release Compose has made a container; and `others`: those whose definition is not the live release's, but
# that of one which did not come to its end.
look_at_containers() {
  local values
  local -A compared=()
  if [ -e "$known/services" ]; then
    while read -r service release image; do compared[$service]=$release; done <"$known/services"
  fi
  while read -r _ service values; do
    case $service in '' | app-blue | app-green) continue ;; esac
    release=${values#"$directory/releases/"}
    release=${release%/.env}
    case $release in '' | *[!0-9]*) release=- ;; esac
    made[$service]=$release
    case $release in - | "$live" | "${compared[$service]:-}") continue ;; esac
    if [ -d "$directory/releases/$release" ]; then others[$service]=$release; fi
  done <<<"${present:-}"
}

compare_services() {
  local hash code=0
  local -A running=() otherwise=()
  if [ -z "$live" ] || [ ! -d "$known" ]; then known=$directory; fi
  place "$known"
  while read -r service hash; do running[$service]=$hash; done < <(hashes any 2>/dev/null)
  for release in "${others[@]}"; do
    place "$directory/releases/$release"
    while read -r service hash; do
      [ "${others[$service]:-}" != "$release" ] || running[$service]=$hash
    done < <(hashes any 2>/dev/null)
  done
  place "$scratch/wanted"
  : >"$scratch/hashes.another"
  if grep -rqw RELEASE_IMAGE "$scratch/compare/compose.yaml" "$scratch/compare/compose"; then
    hashes another >"$scratch/hashes.another" 2>/dev/null &
  fi
  hashes any >"$scratch/hashes" 2>"$scratch/hashes.err" || code=1
  wait
  if [ $code != 0 ]; then
    sed "s|$scratch/compare/||g" "$scratch/hashes.err" >&2
    return 1
  fi
  while read -r service hash; do otherwise[$service]=$hash; done <"$scratch/hashes.another"
  while read -r service hash; do
    image=-
    [ "${otherwise[$service]:-$hash}" = "$hash" ] || image=image
    if [ "${running[$service]:-}" = "$hash" ]; then say_service same; else say_service changed; fi
  done <"$scratch/hashes"
}

# The values count too, apart from the lines that the deploy adds.
same_definitions() {
  cmp -s "$1/compose.yaml" "$2/compose.yaml" && diff -rq "$1/compose" "$2/compose" >/dev/null &&
    sed '/^# Below: the deploy/,$d' "$1/.env" | cmp -s - "$2/.env"
}

# place FOLDER      puts its files where hashes() reads them: always there, because paths are part of a hash
place() {
  local file
  rm -rf "$scratch/compare"
  mkdir "$scratch/compare"
  for file in compose.yaml compose .env; do [ ! -e "$1/$file" ] || cp -R "$1/$file" "$scratch/compare/"; done
}

# hashes IMAGE      SERVICE HASH of each service, always with the same slot, and with IMAGE for RELEASE_IMAGE
hashes() (
  cd "$scratch/compare"
  profiles=$(profiles_in . | tr '\n' ,)
  COMPOSE_PROFILES=blue,$profiles IMAGE_BLUE=any/app IMAGE_GREEN=any/app RELEASE_IMAGE=$1/app RELEASE_NUMBER=0 \
    timeout 30 docker compose --project-directory "$scratch/compare" config --hash '*' | sort
)

# --- the release ---------------------------------------------------------------------------------------------------------

# take_lock SECONDS      stdin: who holds it and why, as JSON. Exit code 4: somebody else has it; prints who.
# Otherwise prints what serves and how many records there are: whoever had to wait may find another server than he saw.
# The kernel's lock on descriptor 9, which agent.sh keeps open: it ends with the agent, however that ends.
take_lock() {
  local code=0 end=$((SECONDS + $1))
  { true >&9; } 2>/dev/null || { echo "$directory/lock cannot be opened by $(id -un): $(ls -l "$directory/lock")" >&2; return 1; }
  flock -w "$1" 9 || code=$?
  if [ $code = 0 ] && ! await_orphans $end; then
    flock --unlock 9
    code=1
  fi
  if [ $code = 1 ]; then
    # Whoever locks it by hand writes nothing.
    cat "$directory/lock.json" 2>/dev/null || true
    return 4
  fi
  [ $code = 0 ]
  : >"$scratch/locked"
  # Whoever had it until now may have changed them.
  forget_containers
  cat >"$directory/lock.json.new" || { rm "$directory/lock.json.new"; return 1; }
  mv "$directory/lock.json.new" "$directory/lock.json"
  echo "$(live_number) $(count_records)"
}

# await_orphans END      until no step runs any more whose agent was killed, or $SECONDS are END
await_orphans() {
  while [ -n "$(orphans)" ]; do
    [ $SECONDS -lt "$1" ] || return 1
    sleep 0.1
  done
}

# A step that process 1 has adopted: a living agent whose connection is lost has the lock open, see answer().
orphans() {
  local pid
  for pid in $(pgrep --euid "$EUID" --parent 1 --full "^bash -s -- [0-9]+ $directory $project\$"); do
    [ -e "/proc/$pid/fd/9" ] || echo "$pid"
  done
}

count_records() {
  if [ -e "$directory/releases.jsonl" ]; then wc -l <"$directory/releases.jsonl"; else echo 0; fi
}

# keep_release RELEASE OLD      the wanted files become those of a release. stdin: as of remember_upstream. Prints its profiles.
keep_release() {
  local all=$directory/releases
  mkdir -p "$all" "$directory/certificates"
  if [ "$2" != none ] && [ ! -d "$all/$2" ]; then save_present "$2"; fi
  rm -rf "$all/.new" "${all:?}/$1"
  cp -R "$scratch/wanted" "$all/.new"
  chmod 600 "$all/.new/.env"
  [ "$2" = none ] || remember_upstream "$all/.new"
  mv "$all/.new" "$all/$1"
  profiles_in "$all/$1"
}

# remember_upstream FOLDER      stdin: the upstream file to go back to, where the server has lost its own; nothing otherwise
remember_upstream() {
  local file=$directory/nginx/upstream/production.conf
  cat >"$1/upstream.before"
  if [ -s "$1/upstream.before" ]; then return; fi
  if [ -e "$file" ]; then cp "$file" "$1/upstream.before"; else rm "$1/upstream.before"; fi
}

# The profiles in COMPOSE_PROFILES that are no slots, such as one for backups.
profiles_in() {
  sed -n 's/^COMPOSE_PROFILES=//p' "$1/.env" 2>/dev/null | tail -n 1 | tr -d "'" | tr , '\n' | grep -vxE 'blue|green|' || true
}

# complete_release RELEASE      stdin: a tar with its upstream file and deploy.env, the last lines of its .env, which name its image
complete_release() {
  cd "$directory/releases/$1"
  tar -x
  cat deploy.env >>.env
  rm deploy.env
}

# want_again RELEASE      the files of an earlier release, as they were
want_again() {
  [ -d "$directory/releases/$1" ] || { echo "the files of release $1 are not there any more" >&2; return 6; }
  cp -R "$directory/releases/$1" "$scratch/wanted"
  rm -f "$scratch/wanted/upstream.before" "$scratch/wanted/services"
  sed -i '/^# Below: the deploy/,$d' "$scratch/wanted/.env"
}

# A stack that was started by hand has no folder in releases/ yet: for the way back it gets one.
save_present() {
  local file
  rm -rf "$directory/releases/.new"
  mkdir -p "$directory/releases/.new"
  (umask 077; cp "$directory/.env" "$directory/releases/.new/.env")
  for file in compose.yaml compose nginx migrations; do cp -R "$directory/$file" "$directory/releases/.new/"; done
  mv "$directory/releases/.new" "$directory/releases/$1"
}

drop_release() {
  if [ "$(live_number)" = "$1" ]; then echo "release $1 serves: its files stay" >&2; return 1; fi
  rm -rf "${directory:?}/releases/${1:?}" "$directory/releases/.new"
}

# put_files RELEASE      checks what nginx would read, then activates the release
put_files() {
  if ! same_files "$1" nginx && ask_nginx nginx >/dev/null 2>&1; then check_nginx "$1" || return 12; fi
  activate "$1"
}

# same_files RELEASE PART      whether the project's present files are those of the release
same_files() {
  local differing
  differing=$(diff -rq "$directory/releases/$1/$2" "$directory/$2" 2>&1 | grep -vE 'nginx/upstream(/|: )production\.conf' || true)
  [ -z "$differing" ]
}

# activate RELEASE      its files become the project's; not .env, and not the upstream file, which say what serves
# One by one and by rename, because nginx/ is mounted into a running container.
activate() {
  local from=$directory/releases/$1 file same=yes
  for file in compose.yaml compose nginx migrations; do same_files "$1" "$file" || same=no; done
  if [ $same = yes ]; then return; fi
  cd "$from"
  find . -type f ! -path ./.env ! -path ./upstream.before ! -path ./services ! -path ./nginx/upstream/production.conf -print0 |
    while IFS= read -r -d '' file; do
      cmp -s "$file" "$directory/$file" && continue
      mkdir -p "$directory/${file%/*}"
      cp "$file" "$directory/$file.dbops-new"
      sync "$directory/$file.dbops-new"
      mv "$directory/$file.dbops-new" "$directory/$file"
    done
  cd "$directory"
  find compose migrations nginx -type f ! -path nginx/upstream/production.conf -print0 |
    while IFS= read -r -d '' file; do [ -e "$from/$file" ] || rm -f "$file"; done
}

# commit RELEASE      from now on `docker compose up` by hand, or after a reboot, means this release
commit() {
  (umask 077; cp "$directory/releases/$1/.env" "$directory/.env.dbops-new")
  mv "$directory/.env.dbops-new" "$directory/.env"
  sync "$directory/.env" "$directory/nginx/upstream/production.conf"
}

# record LINE      one write of less than a page: two lines never mix
record() {
  # One that was cut off when the disk was full or the power failed must not spoil the next.
  if [ -s "$directory/releases.jsonl" ] && [ -n "$(tail -c 1 "$directory/releases.jsonl")" ]; then echo >>"$directory/releases.jsonl"; fi
  printf '%s\n' "$1" >>"$directory/releases.jsonl"
  sync "$directory/releases.jsonl"
}

# history      the number of the live release and those of the releases whose files are kept, then all records
history() {
  local kept
  kept=$(ls "$directory/releases" 2>/dev/null | grep -xE '[0-9]+' | tr '\n' ' ' || true)
  echo "$(live_number)${kept:+ ${kept% }}"
  [ ! -e "$directory/releases.jsonl" ] || cat "$directory/releases.jsonl"
}

# prune_release RELEASE IMAGE      its files; and the image with this id under all its names, unless IMAGE is "-" or one of
# the containers needs it
prune_release() {
  local names
  drop_release "$1"
  if [ "$2" = - ] || [ -n "$(timeout 30 docker ps --all --quiet --filter "ancestor=$2")" ]; then return; fi
  names=$(timeout 30 docker image inspect --format '{{range .RepoTags}}{{println .}}{{end}}{{range .RepoDigests}}{{println .}}{{end}}' "$2")
  # With its last name the image goes, and whatever else it was called is unknown then.
  timeout 60 docker image rm ${names:-$2} >/dev/null 2>"$scratch/prune" && return
  timeout 15 docker image inspect "$2" >/dev/null 2>&1 || return 0
  cat "$scratch/prune" >&2
  return 1
}

# --- images ----------------------------------------------------------------------------------------------------------------

# pull IMAGE REGISTRY USER SECONDS      stdin: the password. Prints what describe_image does.
pull() {
  local login=$scratch/docker
  if [ "$3" != - ]; then
    # A configuration of its own, in memory, and gone again: nothing stays logged in on the server.
    mkdir "$login"
    DOCKER_CONFIG=$login timeout 60 docker login --username "$3" --password-stdin "$2" >/dev/null 2>"$scratch/login.err" ||
      { rm -rf "$login"; cat "$scratch/login.err" >&2; return 10; }
    export DOCKER_CONFIG=$login
  fi
  local code=0
  timeout -k 5 "$4" docker pull --quiet "$1" >/dev/null || code=$?
  case $code in
    0) ;;
    124 | 137) rm -rf "$login"; return 124 ;;
    *) rm -rf "$login"; return 11 ;;
  esac
  rm -rf "$login"
  unset DOCKER_CONFIG
  describe_image "$1"
}

# pull_services RELEASE REGISTRY USER SECONDS SERVICE…      stdin: the password. Those of their images that this registry has, and are
# not there yet; Compose pulls the others by itself.
pull_services() {
  local release=$1 registry=$2 user=$3 limit=$4 image password
  shift 4
  password=$(cat)
  for image in $(compose "$release" config --images "$@"); do
    case $image in "$registry"/*) ;; *) continue ;; esac
    timeout 15 docker image inspect "$image" >/dev/null 2>&1 ||
      printf '%s' "$password" | pull "$image" "$registry" "$user" "$limit" >/dev/null || return
  done
}

# describe_image IMAGE      prints: ID ARCHITECTURE RELEASE|DIGESTS, where RELEASE is what its environment has under that name
describe_image() {
  timeout 30 docker image inspect --format '{{.Id}} {{.Architecture}} {{range .Config.Env}}{{if eq (slice (printf "%s        " .) 0 8) "RELEASE="}}{{slice . 8}}{{end}}{{end}}|{{range .RepoDigests}}{{.}} {{end}}' "$1"
}

tag_image() {
  timeout 30 docker tag "$1" "$2"
}

# --- containers ------------------------------------------------------------------------------------------------------------

# compose RELEASE WORDS…      docker compose with the project's files and the values of one release
compose() {
  forget_containers
  local values=$directory/releases/$1/.env
  shift
  cd "$directory"
  timeout -k 10 "${seconds:-120}" docker compose --project-directory "$directory" --env-file "$values" "$@" </dev/null
}

# put_back RELEASE SERVICE…      after an undo: as that release has them; those that it does not have go
put_back() {
  local release=$1 known service again=()
  shift
  known=$(compose "$release" config --services)
  for service in "$@"; do
    if grep -qxF "$service" <<<"$known"; then again+=("$service"); else remove_service "$service"; fi
  done
  [ ${#again[@]} = 0 ] || up_services "$release" 120 "${again[@]}"
}

# up_services RELEASE SECONDS SERVICE…      starts them, or recreates them where their definition has changed
# Not with --wait, which fails for a service whose health check is switched off, and for one that ends when it is done.
up_services() {
  local release=$1 limit=$2 service
  shift 2
  # The images of the services may have to come first.
  seconds=1800 compose "$release" up --detach --no-deps --no-build --quiet-pull "$@"
  for service in "$@"; do
    await_service "$service" "$limit" || { evidence "$service" >&2; return 1; }
  done
}

# await_service SERVICE SECONDS      until it is healthy, or runs for a second where it has no health check, or has ended well
await_service() {
  local state before='' end=$((SECONDS + $2))
  while [ $SECONDS -lt $end ]; do
    state=$(timeout 15 docker inspect --format '{{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}none{{end}} {{.State.ExitCode}} {{.RestartCount}}' $(of_project "$1"))
    if ! grep -qvE '^(running healthy|exited [a-z]+ 0) ' <<<"$state"; then return; fi
    if ! grep -qvE '^(running (healthy|none)|exited [a-z]+ 0) ' <<<"$state"; then
      [ "$state" != "$before" ] || return 0
      before=$state
      sleep 0.75
    fi
    sleep 0.25
  done
  echo "$1 does not come up: $state" >&2
  return 1
}

# up_nginx RELEASE      without waiting for its health, which is that of the app behind it
up_nginx() {
  seconds=1800 compose "$1" up --detach --no-deps --no-build --quiet-pull nginx
  local tries=0
  until ask_nginx nginx >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { echo "nginx does not come up: it does not answer" >&2; evidence nginx >&2; return 1; }
    sleep 0.25
  done
}

# check_nginx RELEASE      its nginx files, tested by the running nginx beside those that it uses
check_nginx() {
  tar -c -C "$directory/releases/$1" nginx | in_nginx sh -euc '
    rm -rf /tmp/check
    mkdir /tmp/check
    tar -x -C /tmp/check
    nginx -t -q -c /tmp/check/nginx/production.conf || code=$?
    rm -rf /tmp/check
    exit "${code:-0}"'
}

# migrate RELEASE SECONDS WAIT LIMITS FILE…      applies these files, under the lock that every runner of migrations takes. What is to be
# done decides lib/deploy-migrate.ts. LIMITS: PGOPTIONS, or - for those of compose.yaml. stdin: what is asked of Postgres, and what it
# has to say, each ended by a NUL, in the order in which they are read here.
# Exit codes where nothing was begun: 4 somebody else has the lock; prints who. 5 the database says something else; prints what. 7 there
# is no session for the lock. Otherwise prints how dbmate ended, a line with what the database says then, one with why the sums of
# the files are not kept, and what dbmate has said.
# The lock is that of a session of its own. It ends with this function, however that ends; and not before the program that migrates,
# which inherits the way to it.
migrate() {
  local release=$1 limit=$2 end=$((SECONDS + $3)) limits=$4 name prepare try who look expected note forget stop
  local answer trouble to from code=0 variables=(--env PGAPPNAME=dbops-migrate)
  shift 4
  for name in prepare try who look expected note forget stop; do IFS= read -r -d '' "$name"; done
  # Both streams in one, in order: what it warns of as it connects is in front of the first answer, which is of no interest.
  coproc lock_session { docker exec -i "$(container postgres)" sh -c 'exec psql -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -XqtA 2>&1' 2>&1; }
  exec {to}>&"${lock_session[1]}" {from}<&"${lock_session[0]}"
  ask_lock_session "$prepare" >/dev/null || return 7
  while :; do
    answer=$(ask_lock_session "$try") || return 7
    [ "$answer" != t ] || break
    [ $SECONDS -lt $end ] || { ask_lock_session "$who" || return 7; return 4; }
    sleep 0.25
  done
  answer=$(ask_lock_session "$look") || return 7
  [ "$answer" = "$expected" ] || { let_go; echo "$answer"; return 5; }
  trouble=$(ask_lock_session "$note" 2>&1) || [ $? = 2 ] || { echo "$trouble" >&2; return 7; }
  [ "$limits" = - ] || variables+=(--env "PGOPTIONS=$limits")
  seconds=$limit compose "$release" run --rm --no-deps --no-TTY --quiet-pull "${variables[@]}" --entrypoint sh migrations \
    -euc "$apply_only" sh "$@" >"$scratch/dbmate" 2>&1 || code=$?
  # What has ended dbmate has not ended what Postgres does for it.
  [ $code -lt 124 ] || ask_lock_session "$stop" >/dev/null || true
  end=$((SECONDS + 30))
  while [ $SECONDS -lt $end ]; do
    answer=$(ask_lock_session "$try") || break
    [ "$answer" != t ] || break
    sleep 0.25
  done
  ask_lock_session "$forget" >/dev/null 2>&1 || true
  answer=$(ask_lock_session "$look" 2>/dev/null) || answer=
  let_go
  printf '%s\n%s\n%s\n' "$code" "$answer" "${trouble%%$'\n'*}"
  cat "$scratch/dbmate"
}

# In the container of dbmate, which can write nowhere else.
apply_only='folder=$(mktemp -d /dev/shm/dbops-migrations.XXXXXX)
  for file; do cp "/db/migrations/$file" "$folder"; done
  exec dbmate --env-file "" --migrations-dir "$folder" --migrations-table schema_migrations --no-dump-schema up --strict'

# ask_lock_session SQL      prints the answer. Exit codes: 1 the session has ended, 2 Postgres refuses; with its words on stderr.
ask_lock_session() {
  local line said=
  # Where it has ended, its last words are still to be read.
  printf '\\set LAST_ERROR_SQLSTATE 00000\n%s\n;\n\\echo answered :LAST_ERROR_SQLSTATE\n' "$1" 2>/dev/null >&"$to" || true
  while IFS= read -r -t 30 line <&"$from"; do
    case $line in
      'answered 00000') printf '%s' "$said"; return 0 ;;
      'answered '*) printf '%s' "$said" >&2; return 2 ;;
    esac
    said+=$line$'\n'
  done
  echo "${said:-Postgres does not answer}" >&2
  return 1
}

# The session itself takes its time to end, and the next one would wait for it.
let_go() {
  ask_lock_session 'select pg_advisory_unlock_all()' >/dev/null 2>&1 || true
}

# look_at_migrations      stdin: SQL. In a session of its own; after a restart Postgres may need some seconds.
look_at_migrations() {
  local look end=$((SECONDS + 30))
  look=$(cat)
  until in_postgres "$look"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.5
  done
}

# drop_index INDEX SECONDS      as Postgres writes its name
drop_index() {
  timeout -k 5 $(($2 + 30)) docker exec --env "PGOPTIONS=-c lock_timeout=$2s" "$(container postgres)" \
    sh -c 'psql -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -qtAc "drop index concurrently $1"' sh "$1"
}

# start_slot RELEASE SLOT      what an interrupted start may have left under this service goes first
start_slot() {
  local words=(up --detach --no-deps --no-build --pull never "app-$2")
  remove_service "app-$2"
  compose "$1" "${words[@]}" 2>"$scratch/up" && return
  if ! grep -q 'endpoint with name .* already exists' "$scratch/up"; then
    cat "$scratch/up" >&2
    return 1
  fi
  # First the new container: Docker looks for one of that name, and forgets what has none only when there is none.
  remove_service "app-$2"
  forget_endpoint "$project-app-$2-1"
  compose "$1" "${words[@]}"
}

# forget_endpoint CONTAINER      where its removal was cut off, by a full disk for instance, Docker still has it in its networks
forget_endpoint() {
  local network
  for network in $(timeout 15 docker network ls --quiet --filter "label=com.docker.compose.project=$project"); do
    timeout 15 docker network disconnect --force "$network" "$1" 2>/dev/null || true
  done
}

remove_service() {
  forget_containers
  local ids
  ids=$(of_project "$1")
  [ -z "$ids" ] || timeout 60 docker rm --force --volumes $ids >/dev/null
}

# await_slot SLOT SECONDS RESTARTS      until it is more than "starting". Prints: STATUS HEALTH RESTARTS
# One that has been restarted so often is let end for good: how it ends cannot be seen while it starts again.
await_slot() {
  local id state end=$((SECONDS + $2))
  id=$(container "app-$1")
  while :; do
    state=$(timeout 15 docker inspect --format '{{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}none{{end}} {{.RestartCount}}' "$id")
    case $state in "running starting 0") ;; *) break ;; esac
    [ $SECONDS -lt $end ] || break
    sleep 0.25
  done
  if [ "${state##* }" -ge "$3" ]; then
    # It may say that it cannot update what has just stopped, and has done it all the same.
    timeout 15 docker update --restart no "$id" >/dev/null 2>&1 || true
    timeout 15 docker wait "$id" >/dev/null || true
  fi
  echo "$state"
}

# ask_slot SLOT PORT PATH      the slot's whole answer, asked from nginx' container
# Not with wget: its arguments, the health token among them, could be read by everybody on the server.
ask_slot() {
  local id
  id=$(container "app-$1")
  {
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n' "$3"
    timeout 15 docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$id" |
      sed -n 's/^HEALTH_TOKEN=\(..*\)/X-Health-Token: \1\r/p'
    printf '\r\n'
  } | in_nginx nc -w 3 "app-$1" "$2"
}

# prepare_revival RELEASE      an earlier release is to serve again as it was. stdin: as of remember_upstream
prepare_revival() {
  remember_upstream "$directory/releases/$1"
  profiles_in "$directory/releases/$1"
}

# values_of RELEASE      what must not appear in any output
values_of() {
  cat "$directory/releases/$1/.env"
}

# revive_slot SLOT      the stopped container of the release before, as it was
revive_slot() {
  local id
  id=$(container "app-$1")
  # Where an earlier attempt to bring it back has failed, await_slot has taken this from it.
  timeout 15 docker update --restart unless-stopped "$id" >/dev/null
  timeout 60 docker start "$id" >/dev/null
}

stop_slot() {
  local ids
  ids=$(of_project "app-$1")
  # Docker knows stop_grace_period; ours only has to be longer.
  [ -z "$ids" ] || timeout 120 docker stop $ids >/dev/null
}

# unless_live SLOT FUNCTION WORDS…      where the traffic could not be switched back, what takes it must stay
unless_live() {
  local slot=$1 says
  shift
  says=$({ ask_nginx release 2>/dev/null || true; cat "$directory/nginx/upstream/production.conf" 2>/dev/null || true; } |
    sed -nE 's/^( *default ")?[0-9]+ (blue|green) (live|warm|bake).*/\2/p')
  if grep -qx "$slot" <<<"$says"; then
    echo "app-$slot serves: it stays" >&2
    return 1
  fi
  # No answer is no permission.
  if [ -z "$says" ] && [ -n "$(of_project nginx)" ]; then
    echo "nobody can say whether app-$slot serves: it stays" >&2
    return 1
  fi
  "$@"
}

# recovered      after a failure: waits for an engine that is being restarted, and for nginx in it
recovered() {
  local end=$((SECONDS + 90)) nginx
  command -v docker >/dev/null || return 1
  until timeout 10 docker version >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.5
  done
  forget_containers
  nginx=$(of_project nginx) || return 1
  end=$((SECONDS + 20))
  until [ -z "$nginx" ] || ask_nginx nginx >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.5
  done
}

# evidence SERVICE      its last lines, and what Docker knows about its end
evidence() {
  local id
  id=$(of_project "$1" | head -n 1)
  [ -n "$id" ] || { echo "there is no container of $1"; return; }
  timeout 15 docker logs --tail 40 "$id" 2>&1 || true
  timeout 15 docker inspect --format 'state: {{.State.Status}}, exit code {{.State.ExitCode}}, out of memory: {{.State.OOMKilled}}, restarts: {{.RestartCount}}{{with .State.Error}}, error: {{.}}{{end}}{{with .State.Health}}{{range .Log}}
health check: exit code {{.ExitCode}} {{.Output}}{{end}}{{end}}' "$id" || true
}

# --- traffic ---------------------------------------------------------------------------------------------------------------

# switch_to STAMP      stdin: the new upstream file. Prints the time, and the workers that were there before.
# Returns when new workers answer with the stamp. If they do not, the file that was there before is back.
switch_to() {
  cat >"$directory/nginx/upstream/production.conf.dbops-new" || return 1
  take_over "$1"
}

# take_over STAMP [or-by-signal]      production.conf.dbops-new is the upstream file from now on; prints and returns what switch_to does
# On a full disk too: renaming, and another name for a file that is there, need no room.
take_over() {
  local file=$directory/nginx/upstream/production.conf
  [ -s "$file.dbops-new" ] || { echo "$file.dbops-new is empty" >&2; return 1; }
  sync "$file.dbops-new" || return 1
  rm -f "$file.dbops-old"
  [ ! -e "$file" ] || ln "$file" "$file.dbops-old" || return 1
  mv "$file.dbops-new" "$file" || return 1
  date -u +%Y-%m-%dT%H:%M:%S.%NZ
  if reload "$1" || { [ "${2:-}" = or-by-signal ] && reload_by_signal; }; then
    rm -f "$file.dbops-old"
    return
  fi
  # One that was lost before is lost again: it must not say that something serves which nginx does not know.
  if [ -e "$file.dbops-old" ]; then mv "$file.dbops-old" "$file"; else rm -f "$file"; fi
  in_nginx nginx -c /etc/nginx/dbops/production.conf -s reload >&2 || true
  return 1
}

# switch_file RELEASE      before there is an nginx: its upstream file, from the start
switch_file() {
  mkdir -p "$directory/nginx/upstream"
  cp "$directory/releases/$1/nginx/upstream/production.conf" "$directory/nginx/upstream/production.conf.dbops-new"
  mv "$directory/nginx/upstream/production.conf.dbops-new" "$directory/nginx/upstream/production.conf"
}

# forget_nginx      where nothing served before: nothing serves, and nothing says that anything does
forget_nginx() {
  remove_service nginx
  rm -f "$directory/nginx/upstream/production.conf"
}

# switch_back RELEASE      to the upstream file from before this release. Prints what switch_to does.
switch_back() {
  local before=$directory/releases/$1/upstream.before
  ln -f "$before" "$directory/nginx/upstream/production.conf.dbops-new"
  take_over "$(sed -n 's/^ *default "\(.*\)";.*/\1/p' "$before")" or-by-signal
}

# retreat RELEASE SECONDS      switch_back, and then the requests that the release has already taken may end
retreat() {
  local workers started
  started=$(date +%s%N)
  workers=$(switch_back "$1" | tail -n 1)
  echo "switched back in $((($(date +%s%N) - started) / 1000000)) ms"
  drain "$2" $workers
}

# One `docker exec` for all of it: each costs a tenth of a second. `-s reload` reads all files first, and fails if they are wrong.
reload() {
  in_nginx sh -euc '
    configuration=/etc/nginx/dbops/production.conf
    master=$(cat /tmp/nginx.pid)
    workers=
    for file in /proc/[0-9]*/stat; do
      read -r pid name _ parent _ <"$file" 2>/dev/null || continue
      if [ "$name" = "(nginx)" ] && [ "$parent" = "$master" ]; then workers="$workers $pid"; fi
    done
    nginx -c $configuration -s reload
    tries=0
    until [ "$(wget -q -T 1 -O - http://127.0.0.1:8081/release)" = "$1" ]; do
      tries=$((tries + 1))
      [ $tries -lt 500 ] || { echo "nginx does not take the new configuration over" >&2; exit 1; }
      sleep 0.02
    done
    echo $workers' sh "$1"
}

# On a full disk Docker starts no program in a container, but a signal gets there. New workers prove that nginx took the file.
reload_by_signal() {
  local id before tries=0
  id=$(container nginx)
  before=$(nginx_workers "$id")
  timeout 15 docker kill --signal HUP "$id" >/dev/null || return 1
  while [ "$(nginx_workers "$id")" = "$before" ]; do
    tries=$((tries + 1))
    [ $tries -lt 40 ] || return 1
    sleep 0.25
  done
}

nginx_workers() {
  timeout 15 docker top "$1" -eo pid,args | grep 'nginx: worker' || true
}

# serving      what the last step of an undo has to show: who answers now, and whether it is ready
serving() {
  local ready=no end=$((SECONDS + 5))
  [ -n "$(of_project nginx)" ] || return 0
  # The app may just have been started again.
  until ask_nginx ready >/dev/null 2>&1 && ready=yes || [ $SECONDS -ge $end ]; do sleep 0.25; done
  echo "serving $(ask_nginx release) ready=$ready"
}

# finish RELEASE OLDSLOT KEEP SECONDS WORKER…      after the switch: the last requests of the old slot end, then it stops,
# unless KEEP is "running"; meanwhile nginx gets the upstream file without it
finish() {
  local release=$1 old=$2 keep=$3 limit=$4 file stamp tidy
  shift 4
  file=$directory/releases/$release/nginx/upstream/production.conf
  stamp=$(sed -n 's/^ *default "\(.*\)";.*/\1/p' "$file")
  switch_to "$stamp" <"$file" >/dev/null &
  tidy=$!
  [ $# = 0 ] || drain "$limit" "$@"
  if [ "$old" != none ] && [ "$keep" = stopped ]; then stop_slot "$old"; fi
  wait $tidy
}

# drain SECONDS WORKER…      until they are gone, or the time is over. Prints those that are left.
drain() {
  local seconds=$(($1 + 15))
  in_nginx sh -euc '
    tries=$(($1 * 20))
    shift
    while [ $tries -gt 0 ]; do
      left=
      for worker in "$@"; do [ ! -d "/proc/$worker" ] || left="$left $worker"; done
      [ -n "$left" ] || exit 0
      tries=$((tries - 1))
      sleep 0.05
    done
    echo $left' sh "$@"
}

# watch SLOT SINCE SECONDS      what nginx logged about this slot since then, and whether it is ready through nginx
# Prints: NOW REQUESTS ERRORS LINES READY STATUS; READY is "unknown" where nginx could not be asked
watch() {
  local id address now ready status
  # A request that is always logged: without a line of its own, the log cannot be read, and no line means nothing.
  in_nginx sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | nc -w 1 127.0.0.1 8080 >/dev/null' 2>/dev/null || true
  sleep "$3"
  id=$(container "app-$1")
  status=$(timeout 15 docker inspect --format '{{.State.Status}}:{{.RestartCount}}' "$id")
  address=$(timeout 15 docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id")
  now=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
  ready=$(in_nginx sh -c 'wget -q -T 3 -O /dev/null http://127.0.0.1:8081/ready 2>/dev/null && echo yes || echo no' 2>/dev/null) || ready=unknown
  timeout 15 docker logs --since "$2" --until "$now" --tail 20000 "$(container nginx)" 2>/dev/null |
    awk -v now="$now" -v addresses="$address" -v ready="$ready" -v status="$status" '
      BEGIN { count = split(addresses, address, " ") }
      /"status":/ {
        lines++
        for (i = 1; i <= count; i++) if (index($0, "\"upstream\":\"" address[i] ":")) { requests++; if (/"status":5/) errors++ }
      }
      END { print now, requests + 0, errors + 0, lines + 0, ready, status }'
}
