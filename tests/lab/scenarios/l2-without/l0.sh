# cpu-model takes away the rest; without EPT or NPT L1 shadows L2's page tables, which is the longest way of all.
load_kvm
hugepages 256

case $HOST in
vmx) feature=vmx-ept ;;
svm) feature=npt ;;
esac
vmm run l1.json --set "cpu.disable=[\"$feature\"]"
