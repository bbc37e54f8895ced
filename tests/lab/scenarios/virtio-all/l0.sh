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
vmm run l1.json
say "console said: $(cat hvc0.log)"
md5=$(md5sum <raw.img)
say "raw disk is ${md5%% *}"
