load_modules
load_kvm
hugepages 384
ip link set lo up
# The disk image that L1's disk lies on is L0's /dev/vda, a block device; the others are files.
truncate -s 64M raw.img
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
probe unix-echo vsock_1234 &
(
    while ! ip link set tap0 up 2>/dev/null; do sleep 0.1; done
    ip addr add 10.0.0.1/24 dev tap0
    nc -l -p 5000 <blob >/dev/null
) &
# What L1 finds in its persistent memory and in the folder it shares with us; virtiofsd is Debian's own.
head -c 2097152 blob >pmem.img
truncate -s 16M pmem.img
mkdir -p share
echo "from L0 by virtiofs" >share/for-l1
virtiofsd --socket-path=fs.sock -o source=share -o sandbox=chroot >virtiofsd.log 2>&1 &
while [ ! -S fs.sock ]; do
    kill -0 $! 2>/dev/null || { say "odd: virtiofsd ended: $(tail -1 virtiofsd.log)" && break; }
    sleep 0.1
done
vmm run l1.json
say "shared folder has: $(cat share/for-l0)"
md5=$(dd if=pmem.img bs=1M skip=8 count=2 2>/dev/null | md5sum)
say "pmem has ${md5%% *}"
say "console said: $(cat hvc0.log)"
md5=$(md5sum <raw.img)
say "raw disk is ${md5%% *}"
