load_modules
load_kvm
hugepages 64
say "under aerie"
vmm run l1.json
# The same guest; its disk has an I/O thread and io_uring there, too.
cmdline=$(sed -n 's/.*"cmdline": "\(.*\)".*/\1/p' l1.json)
say "under QEMU"
qemu-system-x86_64 -L share -accel kvm -cpu host -nodefaults -display none -no-reboot -serial stdio -m 128 \
    -object memory-backend-memfd,id=ram,size=128M,hugetlb=on,share=on -machine q35,memory-backend=ram \
    -kernel vmlinuz -initrd l1.cpio -append "$cmdline" -object iothread,id=io \
    -blockdev driver=file,node-name=disk,filename=disk.img,aio=io_uring \
    -device virtio-blk-pci,drive=disk,iothread=io,num-queues=1 2>&1
say "QEMU ended with $?"
