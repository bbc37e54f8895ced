#!/bin/bash
# The first process of L1 on its Debian disk.
cd /lab || exit
PATH=$PATH:/lab
. ./lab.sh
probe() { /lab/probe "$@"; }
aerie() { /lab/aerie "$@"; }
say "runs $(. /etc/os-release && echo "$PRETTY_NAME") on $(findmnt -n -o SOURCE,FSTYPE / 2>/dev/null || grep ' / ' /proc/mounts | head -1)"
say "PCI functions: $(lspci -n | wc -l), of them virtio: $(lspci -n -d 1af4: | wc -l)"
# lspci 3.9 does not know virtio's capability for the configuration window, and there are no modules to ask.
lspci -vv 2>&1 | grep -v -e 'VirtIO: <unknown>' -e libkmod | grep -iE 'invalid|unknown|error|!!!|pcilib' | head -5 | sed 's/^/LAB L1 odd: /'

verify() { # NAME DEVICE
    fio --name="$1" --filename="$2" --ioengine=psync --rw=randwrite --bs=4k-64k --size=24M --io_size=8M --verify=crc32c \
        --do_verify=1 --verify_fatal=1 --randseed=1 --end_fsync=1 --direct=1 --minimal >fio.out 2>&1 && say "fio verified $1" || {
        say "fio failed on $1"
        tail -5 fio.out
    }
}
verify raw "$RAW"
verify qcow2 "$QCOW2"

ip link set eth0 up && ip addr add 10.0.0.2/24 dev eth0
ping -c 2 -W 5 -q 10.0.0.1 | grep -o '2 packets transmitted, 2 received' | sed 's/^/LAB L1 ping: /'
md5=$(cat </dev/tcp/10.0.0.1/5000 | md5sum)
say "network brought ${md5%% *}"

say "vsock said: $(echo "there and back" | probe vsock-talk 1234)"
say "entropy by $(cat /sys/class/misc/hw_random/rng_current)"
echo "hello by hvc0" >/dev/hvc0

# Persistent memory: what L0 put there comes back from another place of it, by loads and stores.
dd if=/dev/pmem0 of=/dev/pmem0 bs=1M count=2 seek=8 conv=notrunc,fsync status=none && say "pmem of $(cat /sys/block/pmem0/size) sectors"
mkdir -p /mnt/shared && mount -t virtiofs shared /mnt/shared && say "read $(cat /mnt/shared/for-l1)"
echo "from L1 by virtiofs" >/mnt/shared/for-l0 && umount /mnt/shared
say "balloon took $(grep -w balloon_inflate /proc/vmstat | cut -d' ' -f2) pages"

# L2's disk is a file on our disk. What it reads it must know, what it writes we look at afterwards.
for i in $(seq 0 255); do printf '%-4096s' "block $i"; done >l2.img
md5=$(md5sum <l2.img)
say "L2's disk has ${md5%% *}"
truncate -s 8M l2.img
hugepages 64
vmm run l2.json
md5=$(dd if=l2.img bs=1M skip=4 count=1 status=none | md5sum)
say "L2 copied ${md5%% *}"
sync
say "end"
/lab/busybox stty -F /dev/console echo
/lab/busybox poweroff -f
sleep 1000
