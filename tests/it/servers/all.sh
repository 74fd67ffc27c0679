#!/bin/bash
# Starts every server as this user, asks each until it answers, and ends them all. What they log goes where this writes.
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
fail() { echo "$1" >&2; exit 1; }
# The first word is the answer, the others ask.
answers() {
    expected=$1
    shift
    for _ in $(seq 400); do
        if [ "$("$@" 2>/dev/null)" = "$expected" ]; then return; fi
        sleep 0.05
    done
    fail "no answer: $*"
}

cd /tmp || exit
[ "$(id -u)" = 1001 ] || fail "not the user"
[ "$(umask)" = 0022 ] || fail "not a daemon's umask"
initdb -D /tmp/data -A trust --no-sync >/dev/stdout || fail "no database"

nginx -e /dev/stderr -c /etc/servers/nginx.conf &
apache2 -D FOREGROUND -f /etc/servers/apache.conf &
haproxy -db -f /etc/servers/haproxy.conf &
$(echo /usr/sbin/php-fpm*) -y /etc/servers/php.conf &
redis-server /etc/servers/redis.conf &
postgres -D /tmp/data -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c log_statement=all 2>/dev/stderr &

answers nginx curl -s http://127.0.0.1:8080/from-nginx
answers apache curl -s http://127.0.0.1:8081/page.txt
answers haproxy curl -s http://127.0.0.1:8082/from-haproxy
answers php curl -s http://127.0.0.1:8080/from-php
answers PONG redis-cli -h 127.0.0.1 ping
answers 7 psql -h 127.0.0.1 -d postgres -Atc 'select 3 + 4'

# What is logged late is logged at the end.
# shellcheck disable=SC2046 # numbers
kill $(jobs -p)
wait
echo all answered
