/* What the CPU says of itself: hypervisor bit, x2APIC id, VMX and SVM, FEATURE_CONTROL's place. */
#include "guest.h"

uint8_t payload(uint32_t magic, uint32_t info)
{
	uint32_t r[4];
	(void)magic, (void)info;
	cpuid(1, 0, r);
	print_hex("hypervisor ", r[2] >> 31);
	print_hex("vmx ", r[2] >> 5 & 1);
	print_hex("apic id ", r[1] >> 24);
	cpuid(0xb, 0, r);
	print_hex("threads ", r[1] & 0xffff);
	print_hex("x2apic id ", r[3]);
	cpuid(0xb, 1, r);
	print_hex("in socket ", r[1] & 0xffff);
	cpuid(0x80000001, 0, r);
	print_hex("svm ", r[2] >> 2 & 1);
	return 0;
}
