/*
 * ELF kernels, 32 and 64 bits (System V ABI, chapters 4 and 5): their headers, notes and loading. The headers
 * are read from the file as they are needed and never kept, however many a hostile file claims to have.
 */
#ifndef AERIE_FIRMWARE_LOAD_ELF_H
#define AERIE_FIRMWARE_LOAD_ELF_H

#include "load.h"

#include <stdbool.h>

struct elf_kernel {
	bool is_64bit;
	uint64_t entry; /* a virtual address, as ELF has it */
	uint64_t segments_offset;
	uint32_t segment_count;
};

/* 1: an x86 ELF executable, described in `ret`; 0: no ELF; negative: an ELF that is refused. */
int elf_recognise(const struct image *image, struct elf_kernel *ret, struct err *err);

/*
 * The value of the note `type` of `owner`, an integer of 4 or 8 bytes. 1: found (the first one counts); 0:
 * there is none; negative: the notes are broken.
 */
int elf_find_note(const struct image *image, const struct elf_kernel *elf, const char *owner, uint32_t type,
		  uint64_t *ret_value, struct err *err);

/* Every PT_LOAD segment to its physical address, what the file lacks of it zeroed. */
int elf_load(struct load *load, const struct elf_kernel *elf, struct err *err);

/* Whether [gpa, gpa + 1) came from the file: an entry point must. 1, 0 or negative. */
int elf_has_byte(const struct image *image, const struct elf_kernel *elf, uint64_t gpa, struct err *err);

/*
 * The physical address of the ELF entry point: 1 found, 0 when it is in no segment, or negative. ELF has a
 * virtual address there, but kernels linked high often put the physical one.
 */
int elf_entry_gpa(const struct image *image, const struct elf_kernel *elf, uint64_t *ret_gpa,
		  struct err *err);

#endif
