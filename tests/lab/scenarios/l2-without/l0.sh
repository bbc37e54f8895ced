load_kvm
hugepages 256

case $HOST in
vmx)
    set -- vmx-shadow-vmcs 'vmx-apicv-xapic","vmx-apicv-x2apic","vmx-apicv-register","vmx-apicv-vid' vmx-pml vmx-vpid \
        vmx-unrestricted-guest vmx-ept
    ;;
svm) set -- npt ;;
esac
spoke=0 asked=$#
for feature in "$@"; do
    say "without $feature"
    began=$(clock)
    aerie run l1.json --set "cpu.disable=[\"$feature\"]" >console 2>&1
    ended
    sed 's/^/| /' console
    grep -q '^LAB L2 hello from a guest of a guest' console && spoke=$((spoke + 1))
done
say "$spoke of $asked L2s spoke"
