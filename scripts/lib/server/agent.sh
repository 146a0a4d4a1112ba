# The server's half of a session. lib/session.ts sends this file, and deploy.sh, on the stdin of `ssh … bash -s`, and then
# requests on the same stdin. Nothing of it stays on the server.
#   Requests: one header line, then exactly as many bytes as it says.
#     call ID BYTES WORDS…   calls a function with the words, shell-quoted; the bytes are its stdin
#     undo BYTES             what to do from now on if the connection is lost: a function and its words on each line
#     alive                  the client is still there; sent every few seconds
#     end                    the client is done
#   Answers: ID EXITCODE BASE64(stdout) BASE64(stderr), and the ID "undo" for what was done after the connection was lost.
# A client that is killed closes the connection; one whose packets are dropped is silent: after `patience` seconds it counts
# as lost. What is being done then is finished first, and nothing is ever stopped half-way.

patience=$1
directory=$2
project=$3

# Secrets pass through here, so in memory where there is such a place, with room in it.
umask 022
scratch=$(mktemp -d "/dev/shm/dbops.$$.XXXXXXXX" 2>/dev/null) && head -c 1M /dev/zero 2>/dev/null >"$scratch/room" && rm "$scratch/room" ||
  { rm -rf "$scratch"; scratch=$(mktemp -d); }
# lock.json goes with the lock, where take_lock got it: it must name nobody who is not there any more.
trap '[ ! -e "$scratch/locked" ] || rm -f "$directory/lock.json"; rm -rf "$scratch"' EXIT
# One that was killed could not tidy up.
for old in /dev/shm/dbops.*; do
  owner=${old#*.}
  if [ -O "$old" ] && ! kill -0 "${owner%.*}" 2>/dev/null; then rm -rf "$old"; fi
done
# The connection may go at any time; whatever runs is to finish.
trap '' HUP PIPE INT
# Without it `set -e` ends at every $(…).
shopt -s inherit_errexit
: >"$scratch/undo"
# Held by this process alone; see answer().
if [ -w "$directory" ]; then exec 9>>"$directory/lock"; fi

serve() {
  local kind first second words
  # What the login shell has printed before may not have ended its line.
  printf '\nready 1\n'
  while IFS=' ' read -r -t "$patience" kind first second words; do
    case $kind in
      call)
        receive "$second" "$scratch/in" || break
        eval "set -- $words"
        answer "$first" "$@"
        ;;
      undo)
        receive "$first" "$scratch/undo.new" || break
        mv "$scratch/undo.new" "$scratch/undo"
        ;;
      alive) ;;
      end) exit 0 ;;
      *) exit 1 ;;
    esac
  done
  : >"$scratch/in"
  answer undo undo_all
  # Not just the end of this function: bash would go on to read its program from the line that is dead, and keep the lock.
  exit 0
}

# receive BYTES FILE      fails unless all of them come: half a request must not be carried out. Piece by piece, because a slow
# line is not a lost one.
receive() {
  local left=$1 piece
  : >"$2"
  while [ "$left" -gt 0 ]; do
    piece=$((left < 262144 ? left : 262144))
    timeout "$patience" head -c "$piece" >>"$2" || return 1
    left=$((left - piece))
  done
  [ "$(stat -c %s "$2")" = "$1" ]
}

# Runs a function, and tells what came of it. Only the one that takes the lock may hold on to it: any other process that
# inherited descriptor 9 and got stuck would keep the lock for ever.
answer() {
  local id=$1 code
  shift
  # No `||` behind the parentheses: it would switch off `set -e` inside them.
  if [ "$1" = take_lock ]; then
    (set -euo pipefail; "$@") <"$scratch/in" >"$scratch/out" 2>"$scratch/err"
    code=$?
  else
    (exec 9>&-; set -euo pipefail; "$@") <"$scratch/in" >"$scratch/out" 2>"$scratch/err"
    code=$?
  fi
  printf '%s %s %s %s\n' "$id" "$code" "$(base64 -w 0 "$scratch/out")" "$(base64 -w 0 "$scratch/err")" 2>/dev/null
  rm -f "$scratch/in"
}

# Each line on its own: one that fails must not keep the next from being tried. It is tried again where the functions can say
# that what it needed is back.
undo_all() {
  local line code failed=0
  set +e
  while IFS= read -r line <&3; do
    (set -euo pipefail; eval "$line") </dev/null
    code=$?
    if [ $code != 0 ] && [ "$(type -t recovered)" = function ] && recovered; then
      (set -euo pipefail; eval "$line") </dev/null
      code=$?
    fi
    [ $code = 0 ] || failed=1
  done 3<"$scratch/undo"
  return $failed
}
