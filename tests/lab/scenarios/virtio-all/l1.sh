# From the initramfs to Debian on the disk. What L1 runs there as a hypervisor goes along.
load_modules
load_kvm
for disk in vda vdb vdc; do
    eval "$(cat /sys/block/$disk/serial)=/dev/$disk" # by serial number, the order is nobody's promise
done
mkdir root
mount -t ext4 "$DEBIAN" /root || say "no Debian"
mkdir /root/lab
cp -r lab.sh lab.env l1-debian.sh vmlinuz l2.cpio l2.json bin/aerie bin/probe bin/busybox /root/lab/
echo "RAW=$RAW QCOW2=$QCOW2" >>/root/lab/lab.env
for fs in proc sys dev; do
    mount -o bind /$fs /root/$fs
done
say "goes to Debian"
exec switch_root /root /lab/l1-debian.sh
