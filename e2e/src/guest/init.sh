# First process of the guest: makes a root of its own over the host's, runs the command of the share, tells how that
# ended, and turns the machine off. `modules` is the folder of the kernel, from the command line of the kernel.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export PATH HOME
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
modprobe -d "$modules" overlay
mount -t overlay -o "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mkdir -p .host lib/modules
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/netns run/guest
mount -t virtiofs share run/guest
# The kernel looks for modules that it needs in the root of this process.
pivot_root . .host
cd /
release=$(uname -r)
ln -s "/.host$modules/lib/modules/$release" "/lib/modules/$release"
ip link set lo up
sh /run/guest/command >/run/guest/output 2>&1 </dev/null
echo $? >/run/guest/status
sync
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
