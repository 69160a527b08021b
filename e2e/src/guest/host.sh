# Serves the host's root, which is read-only here, and the share $1/share to an emulator. All of it runs in namespaces of
# its own, where this is the first process: what it started ends with it, and what it mounted too.
# $1 is the folder of the run, $2 the file server; the rest is the emulator's command line.
set -eu
folder=$1 server=$2
shift 2
mount --bind "$folder" "$folder"
mount -t tmpfs tmpfs /run
mkdir /run/virtiofsd
mount -o remount,bind,ro /
"$server" --socket-path="$folder/root.sock" -o source=/ -o cache=always -o sandbox=chroot >"$folder/root.log" 2>&1 &
root=$!
"$server" --socket-path="$folder/share.sock" -o source="$folder/share" -o cache=none -o sandbox=chroot >"$folder/share.log" 2>&1 &
share=$!
until [ -S "$folder/root.sock" ] && [ -S "$folder/share.sock" ]; do
  kill -0 "$root" "$share"
  sleep 0.02
done
exec "$@"
