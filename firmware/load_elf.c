#include "load_elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	ELF_SEGMENTS_MAX = 64, /* a kernel has fewer than ten */
	ELF_NOTES_BYTES_MAX = 64 * 1024,
};

static const char elf_header_name[] = "the ELF header";
static const char elf_segments_name[] = "the program headers";
static const char elf_notes_name[] = "an ELF note";

/* Both classes are read into the wider structs, so that only these two functions know of two. */
static int elf_read_header(const struct image *image, bool is_64bit, Elf64_Ehdr *ret, struct err *err)
{
	Elf32_Ehdr narrow = {0};
	if (is_64bit)
		return image_read(image, 0, ret, sizeof(*ret), elf_header_name, err);
	int r = image_read(image, 0, &narrow, sizeof(narrow), elf_header_name, err);
	*ret = (Elf64_Ehdr){
		.e_type = narrow.e_type,
		.e_machine = narrow.e_machine,
		.e_entry = narrow.e_entry,
		.e_phoff = narrow.e_phoff,
		.e_phentsize = narrow.e_phentsize,
		.e_phnum = narrow.e_phnum,
	};
	return r;
}

static int elf_read_segment_header(const struct image *image, const struct elf_kernel *elf, uint32_t index,
				   Elf64_Phdr *ret, struct err *err)
{
	Elf32_Phdr narrow = {0};
	if (elf->segments_offset > image->size) /* now the sums below cannot wrap */
		return err_set(err, -EINVAL, "%s: truncated: %s are beyond its end", image->path,
			       elf_segments_name);
	if (elf->is_64bit)
		return image_read(image, elf->segments_offset + index * sizeof(*ret), ret, sizeof(*ret),
				  elf_segments_name, err);
	int r = image_read(image, elf->segments_offset + index * sizeof(narrow), &narrow, sizeof(narrow),
			   elf_segments_name, err);
	*ret = (Elf64_Phdr){
		.p_type = narrow.p_type,
		.p_offset = narrow.p_offset,
		.p_vaddr = narrow.p_vaddr,
		.p_paddr = narrow.p_paddr,
		.p_filesz = narrow.p_filesz,
		.p_memsz = narrow.p_memsz,
		.p_align = narrow.p_align,
	};
	return r;
}

static int elf_read_segment(const struct image *image, const struct elf_kernel *elf, uint32_t index,
			    Elf64_Phdr *ret, struct err *err)
{
	int r = elf_read_segment_header(image, elf, index, ret, err);
	if (r)
		return r;
	if (ret->p_type == PT_LOAD && ret->p_filesz > ret->p_memsz)
		return err_set(err, -EINVAL,
			       "%s: segment %u has more bytes in the file (0x%" PRIx64
			       ") than in memory (0x%" PRIx64 ")",
			       image->path, index, ret->p_filesz, ret->p_memsz);
	return 0;
}

static int elf_check_header(const struct image *image, bool is_64bit, const Elf64_Ehdr *header,
			    struct err *err)
{
	const char *path = image->path;
	if (header->e_machine != EM_386 && header->e_machine != EM_X86_64)
		return err_set(err, -EINVAL, "%s: an ELF file for machine %u, not for x86", path,
			       header->e_machine);
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return err_set(err, -EINVAL, "%s: an ELF file, but no executable (type %u)", path,
			       header->e_type);
	if (header->e_phentsize != (is_64bit ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return err_set(err, -EINVAL, "%s: its ELF program headers have %u bytes each", path,
			       header->e_phentsize);
	if (header->e_phnum == 0 || header->e_phnum > ELF_SEGMENTS_MAX)
		return err_set(err, -EINVAL, "%s: %u ELF program headers; 1 to %d would be accepted", path,
			       header->e_phnum, ELF_SEGMENTS_MAX);
	return 0;
}

int elf_recognise(const struct image *image, struct elf_kernel *ret, struct err *err)
{
	uint8_t ident[EI_NIDENT] = {0};
	if (image->size < SELFMAG)
		return 0;
	int r = image_read(image, 0, ident, image->size < sizeof(ident) ? SELFMAG : sizeof(ident),
			   elf_header_name, err);
	if (r)
		return r;
	if (memcmp(ident, ELFMAG, SELFMAG) != 0)
		return 0;
	bool is_64bit = ident[EI_CLASS] == ELFCLASS64;
	if ((!is_64bit && ident[EI_CLASS] != ELFCLASS32) || ident[EI_DATA] != ELFDATA2LSB)
		return err_set(err, -EINVAL,
			       "%s: an ELF file, but neither of 32 nor of 64 bits, little-endian",
			       image->path);
	Elf64_Ehdr header = {0};
	r = elf_read_header(image, is_64bit, &header, err);
	if (r == 0)
		r = elf_check_header(image, is_64bit, &header, err);
	if (r)
		return r;
	*ret = (struct elf_kernel){
		.is_64bit = is_64bit,
		.entry = header.e_entry,
		.segments_offset = header.e_phoff,
		.segment_count = header.e_phnum,
	};
	return 1;
}

/*
 * A note is a header, the owner's name with its 0, and the value, the latter two padded to 4 bytes, or to 8
 * in a segment so aligned (System V ABI, "Note Section"; the 8 is what binutils does). Sizes are 32 bits and
 * the segment is small, so that no sum here can wrap.
 */
static int elf_find_note_in(const struct image *image, const Elf64_Phdr *segment, const char *owner,
			    uint32_t type, uint64_t *ret_value, struct err *err)
{
	const uint64_t padding = segment->p_align == 8 ? 8 : 4;
	const size_t owner_bytes = strlen(owner) + 1;
	char name[16];

	if (segment->p_filesz > ELF_NOTES_BYTES_MAX || segment->p_offset > image->size)
		return err_set(err, -EINVAL, "%s: ELF notes of 0x%" PRIx64 " bytes at offset 0x%" PRIx64,
			       image->path, segment->p_filesz, segment->p_offset);
	uint64_t at = segment->p_offset;
	const uint64_t end = at + segment->p_filesz;
	while (end - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note; /* the same as Elf32_Nhdr */
		int r = image_read(image, at, &note, sizeof(note), elf_notes_name, err);
		if (r)
			return r;
		uint64_t name_at = at + sizeof(note);
		uint64_t value_at =
			align_up(name_at + note.n_namesz - segment->p_offset, padding) + segment->p_offset;
		uint64_t next =
			align_up(value_at + note.n_descsz - segment->p_offset, padding) + segment->p_offset;
		if (value_at + note.n_descsz > end)
			return err_set(err, -EINVAL,
				       "%s: an ELF note at offset 0x%" PRIx64
				       " crosses the end of its segment",
				       image->path, at);
		at = next < end ? next : end;
		if (note.n_type != type || note.n_namesz != owner_bytes || owner_bytes > sizeof(name))
			continue;
		r = image_read(image, name_at, name, owner_bytes, elf_notes_name, err);
		if (r)
			return r;
		if (memcmp(name, owner, owner_bytes) != 0)
			continue;
		if (note.n_descsz != sizeof(uint32_t) && note.n_descsz != sizeof(uint64_t))
			return err_set(err, -EINVAL,
				       "%s: the value of the %s note %u has %u bytes, not 4 or 8",
				       image->path, owner, type, note.n_descsz);
		*ret_value = 0;
		r = image_read(image, value_at, ret_value, note.n_descsz, elf_notes_name, err);
		return r ? r : 1;
	}
	return 0;
}

int elf_find_note(const struct image *image, const struct elf_kernel *elf, const char *owner, uint32_t type,
		  uint64_t *ret_value, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		Elf64_Phdr segment = {0};
		int r = elf_read_segment(image, elf, i, &segment, err);
		if (r == 0 && segment.p_type == PT_NOTE)
			r = elf_find_note_in(image, &segment, owner, type, ret_value, err);
		if (r)
			return r;
	}
	return 0;
}

static int elf_load_segment(struct load *load, uint32_t index, const Elf64_Phdr *segment, struct err *err)
{
	int r = places_take(&load->places, segment->p_paddr, segment->p_memsz, err, "segment %u", index);
	if (r)
		return err_prepend(err, "%s", load->kernel.path);
	uint8_t *dst = guest_memory_at(load->memory, segment->p_paddr, segment->p_memsz);
	memset(dst + segment->p_filesz, 0, segment->p_memsz - segment->p_filesz);
	if (segment->p_filesz == 0) /* its offset means nothing then */
		return 0;
	return image_read(&load->kernel, segment->p_offset, dst, segment->p_filesz, "a segment", err);
}

int elf_load(struct load *load, const struct elf_kernel *elf, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		Elf64_Phdr segment = {0};
		int r = elf_read_segment(&load->kernel, elf, i, &segment, err);
		if (r == 0 && segment.p_type == PT_LOAD && segment.p_memsz)
			r = elf_load_segment(load, i, &segment, err);
		if (r)
			return r;
	}
	return 0;
}

int elf_has_byte(const struct image *image, const struct elf_kernel *elf, uint64_t gpa, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		Elf64_Phdr segment = {0};
		int r = elf_read_segment(image, elf, i, &segment, err);
		if (r)
			return r;
		if (segment.p_type == PT_LOAD && gpa >= segment.p_paddr &&
		    gpa - segment.p_paddr < segment.p_filesz)
			return 1;
	}
	return 0;
}

int elf_entry_gpa(const struct image *image, const struct elf_kernel *elf, uint64_t *ret_gpa, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		Elf64_Phdr segment = {0};
		int r = elf_read_segment(image, elf, i, &segment, err);
		if (r)
			return r;
		if (segment.p_type == PT_LOAD && elf->entry >= segment.p_vaddr &&
		    elf->entry - segment.p_vaddr < segment.p_filesz) {
			*ret_gpa = elf->entry - segment.p_vaddr + segment.p_paddr;
			return 1;
		}
	}
	*ret_gpa = elf->entry;
	return elf_has_byte(image, elf, elf->entry, err);
}
