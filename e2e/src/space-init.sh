# First process of a space: makes the root given as $1 its own, under the host name $2. The other arguments are pairs of
# a folder and where in the root it is seen, read-only. It prints its id as the host knows it, and stays. It runs in
# fresh namespaces and only there.
set -eu
read -r pid _ </proc/self/stat
mount --bind "$1" "$1"
cd "$1"
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then ln -sfn "$(readlink "/$name")" "$name"; elif [ -d "/$name" ]; then mkdir -p "$name" && mount --rbind "/$name" "$name"; fi
done
mkdir -p usr proc sys dev run tmp root .host
mount --rbind /usr usr
mount -o remount,bind,ro usr
mount --rbind /dev dev
mount -t proc proc proc
# The kubelet sets these for the whole machine. In a space it sets copies: the machine stays as it is.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  mkdir -p "var/lib/lab-sysctl/${name%/*}"
  cat "/proc/sys/$name" >"var/lib/lab-sysctl/$name"
  mount --bind "var/lib/lab-sysctl/$name" "proc/sys/$name"
done
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
hostname "$2"
shift 2
while [ $# -gt 0 ]; do
  mkdir -p "./$2"
  mount --bind "$1" "./$2"
  mount -o remount,bind,ro "./$2"
  shift 2
done
pivot_root . .host
cd /
umount -l .host
mount --make-rshared /
ip link set lo up
echo "$pid"
# Nobody waits for the orphans that this process inherits; a kernel that is told so forgets them by itself.
exec env --ignore-signal=CHLD sleep infinity </dev/null >/dev/null 2>&1
