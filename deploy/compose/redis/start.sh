#!/bin/sh
# Redis with a password, which its first start makes: 256 random bits, in a file that the group redis may read.
set -eu

password=/run/redis-password/password
if ! [ -s "$password" ]; then
    umask 337
    rm -f "$password.new"
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$password.new"
    mv "$password.new" "$password"
fi

umask 077
# Every job is in the append-only file within a second, so snapshots would add nothing. The password comes from standard
# input, since whoever lists the machine's processes sees their arguments.
exec redis-server --appendonly yes --save "" - <<END
requirepass $(cat "$password")
END
