/* What multiboot 1 hands over: magic, flags, command line, modules, memory (Multiboot 0.6.96, 3.3). */
#include "guest.h"

struct multiboot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
};

struct multiboot_module {
	uint32_t start, end, string, reserved;
};

uint8_t payload(uint32_t magic, uint32_t info)
{
	const struct multiboot_info *boot = at(info);
	if (magic != 0x2badb002)
		return 1;
	print_hex("flags ", boot->flags & 0x4d); /* memory, command line, modules, memory map */
	print_hex("lower KiB ", boot->mem_lower);
	print_hex("upper KiB ", boot->mem_upper);
	print(at(boot->cmdline));
	print("\n");
	const struct multiboot_module *module = at(boot->mods_addr);
	for (uint32_t i = 0; i < boot->mods_count; i++, module++) {
		print_hex("page offset ", module->start & 0xfff);
		print(at(module->start));
		print(at(module->string));
		print("\n");
	}
	return 20;
}
