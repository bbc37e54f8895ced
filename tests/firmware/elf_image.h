/* ELF kernels made by tests: up to four segments of code and a PVH note, in 32 or 64 bits. */
#ifndef AERIE_TESTS_FIRMWARE_ELF_IMAGE_H
#define AERIE_TESTS_FIRMWARE_ELF_IMAGE_H

#include <elf.h>
#include <stdbool.h>
#include <string.h>

enum { ELF_IMAGE_BYTES = 8192, ELF_IMAGE_SEGMENTS = 4 };

struct elf_image {
	bool is_64bit;
	uint16_t machine;
	uint64_t entry;
	uint32_t count;
	Elf64_Phdr segments[ELF_IMAGE_SEGMENTS];
	uint8_t bytes[ELF_IMAGE_BYTES];
};

/* Header and segments into `bytes`; the contents of the segments are the test's. */
static inline void elf_image_headers(struct elf_image *image)
{
	static const uint8_t ident[EI_NIDENT] = {0x7f, 'E', 'L', 'F', 0, ELFDATA2LSB, EV_CURRENT};
	if (image->is_64bit) {
		Elf64_Ehdr header = {
			.e_type = ET_EXEC,
			.e_machine = image->machine,
			.e_version = EV_CURRENT,
			.e_entry = image->entry,
			.e_phoff = sizeof(header),
			.e_ehsize = sizeof(header),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = (uint16_t)image->count,
		};
		memcpy(header.e_ident, ident, sizeof(ident));
		header.e_ident[EI_CLASS] = ELFCLASS64;
		memcpy(image->bytes, &header, sizeof(header));
		memcpy(image->bytes + sizeof(header), image->segments, sizeof(image->segments));
		return;
	}
	Elf32_Ehdr header = {
		.e_type = ET_EXEC,
		.e_machine = image->machine,
		.e_version = EV_CURRENT,
		.e_entry = (uint32_t)image->entry,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = (uint16_t)image->count,
	};
	memcpy(header.e_ident, ident, sizeof(ident));
	header.e_ident[EI_CLASS] = ELFCLASS32;
	memcpy(image->bytes, &header, sizeof(header));
	for (size_t i = 0; i < ELF_IMAGE_SEGMENTS; i++) {
		const Elf64_Phdr *from = &image->segments[i];
		Elf32_Phdr to = {
			.p_type = from->p_type,
			.p_offset = (uint32_t)from->p_offset,
			.p_vaddr = (uint32_t)from->p_vaddr,
			.p_paddr = (uint32_t)from->p_paddr,
			.p_filesz = (uint32_t)from->p_filesz,
			.p_memsz = (uint32_t)from->p_memsz,
			.p_align = (uint32_t)from->p_align,
		};
		memcpy(image->bytes + sizeof(header) + i * sizeof(to), &to, sizeof(to));
	}
}

/*
 * Text of 0x100 bytes at offset 0x1000, linked high as Linux is; data with a bss at offset 0x1800. Segment 2
 * is free for the note.
 */
static inline void elf_image_make(struct elf_image *image, bool is_64bit)
{
	const uint64_t virtual_base = is_64bit ? 0xffffffff80000000 : 0xc0000000;
	*image = (struct elf_image){
		.is_64bit = is_64bit,
		.machine = is_64bit ? EM_X86_64 : EM_386,
		.entry = virtual_base + 0x100010,
		.count = 2,
		.segments =
			{
				{.p_type = PT_LOAD,
				 .p_offset = 0x1000,
				 .p_vaddr = virtual_base + 0x100000,
				 .p_paddr = 0x100000,
				 .p_filesz = 0x100,
				 .p_memsz = 0x100,
				 .p_align = 0x1000},
				{.p_type = PT_LOAD,
				 .p_offset = 0x1800,
				 .p_vaddr = virtual_base + 0x200000,
				 .p_paddr = 0x200000,
				 .p_filesz = 0x80,
				 .p_memsz = 0x10080,
				 .p_align = 0x1000},
			},
	};
	memset(image->bytes + 0x1000, 0xc1, 0x100);
	memset(image->bytes + 0x1800, 0xd2, 0x80);
	elf_image_headers(image);
}

/* As segment 2: another owner's note and one of another type first, then Xen's PHYS32_ENTRY. */
static inline void elf_image_add_pvh(struct elf_image *image, uint64_t entry, uint32_t value_bytes)
{
	const struct {
		uint32_t name_bytes, value_bytes, type;
		char name[4];
		uint64_t value;
	} __attribute__((packed)) notes[] = {
		{4, 8, 18, "GNU", 1},
		{4, 8, 17, "Xen", 2},
		{4, value_bytes, 18, "Xen", entry},
	};
	memcpy(image->bytes + 0x1c00, notes, sizeof(notes));
	image->segments[2] = (Elf64_Phdr){.p_type = PT_NOTE,
					  .p_offset = 0x1c00,
					  .p_align = 4,
					  .p_filesz = sizeof(notes) - sizeof(uint64_t) + value_bytes};
	image->count = 3;
	elf_image_headers(image);
}

#endif
