/* What PVH hands over: command line, initrd as the first module, modules with command lines, memory map,
 * RSDP. */
#include "guest.h"

static void print_module(const struct start_module *module)
{
	print(at(module->address));
	print(module->cmdline ? at(module->cmdline) : "no command line");
	print("\n");
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	const struct start_info *start = at(info);
	(void)magic;
	if (start->magic != START_INFO_MAGIC || start->version < 1)
		return 1;
	print(at(start->cmdline));
	print("\n");
	for (uint32_t i = 0; i < start->nr_modules; i++)
		print_module((const struct start_module *)at(start->modules) + i);
	const char *rsdp = at(start->rsdp);
	for (int i = 0; i < 8; i++)
		outb(0xe9, (uint8_t)rsdp[i]);
	print_hex("\nmap entries ", start->memmap_entries > 2);
	return 20;
}
