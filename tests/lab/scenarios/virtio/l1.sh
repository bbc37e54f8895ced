for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk virtio-rng virtio_console \
    virtio_balloon libnvdimm nd_virtio virtio_pmem nd_btt nd_pmem; do
    load $module
done
sleep 1
cat /proc/interrupts | grep -c virtio | sed 's/^/LAB L1 vectors: /'
say "serial $(cat /sys/block/vda/serial), read only $(cat /sys/block/vda/ro), block $(cat /sys/block/vdb/queue/logical_block_size)"
md5=$(md5sum </dev/vda)
say "disk reads ${md5%% *}"

printf 'from the guest' | dd of=/dev/vdb bs=4096 conv=sync,fsync 2>/dev/null
dd if=/dev/vda of=/dev/vdb bs=1M seek=1 conv=fsync 2>/dev/null && say "disk copied"
echo 3 >/proc/sys/vm/drop_caches
md5=$(dd if=/dev/vdb bs=1M skip=1 count=16 2>/dev/null | md5sum)
say "copy reads ${md5%% *}"

say "entropy by $(cat /sys/class/misc/hw_random/rng_current), $(dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c) bytes"
echo "hello by hvc0" >/dev/hvc0 && say "console written"
ls /dev/pmem0 >/dev/null && printf 'kept for longer' | dd of=/dev/pmem0 bs=4096 conv=sync,fsync 2>/dev/null && say "pmem written"
dmesg | grep -iE 'pci.*(fail|error|conflict|invalid|can.t)' | sed 's/^/LAB L1 odd: /'
