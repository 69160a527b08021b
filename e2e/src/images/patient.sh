#!/bin/sh
# agnhost, but for one thing: on a kernel without SCTP, what is to serve it waits instead of ending.
if [ "$1" = porter ] && env | grep -q '^SERVE_SCTP_PORT_' && ! grep -q '^SCTP' /proc/net/protocols; then
  exec /usr/local/bin/agnhost pause
fi
exec /usr/local/bin/agnhost "$@"
