#include "load_elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	ELF_SEGMENTS_MAX = 64, /* a kernel has fewer than ten */
	ELF_NOTES_BYTES_MAX = 64 * 1024,
};

struct elf_segment {
	uint32_t type;
	uint64_t offset;
	uint64_t vaddr;
	uint64_t paddr;
	uint64_t file_bytes;
	uint64_t memory_bytes; /* not less */
	uint64_t alignment;
};

static const char elf_header_name[] = "the ELF header";
static const char elf_segments_name[] = "the program headers";
static const char elf_notes_name[] = "an ELF note";

static int elf_read_header(const struct image *image, struct elf_kernel *ret, uint16_t *ret_machine,
			   uint16_t *ret_type, uint16_t *ret_entry_bytes, struct err *err)
{
	if (ret->is_64bit) {
		Elf64_Ehdr header;
		int r = image_read(image, 0, &header, sizeof(header), elf_header_name, err);
		if (r)
			return r;
		*ret_machine = header.e_machine;
		*ret_type = header.e_type;
		*ret_entry_bytes = header.e_phentsize;
		ret->entry = header.e_entry;
		ret->segments_offset = header.e_phoff;
		ret->segment_count = header.e_phnum;
		return 0;
	}
	Elf32_Ehdr header;
	int r = image_read(image, 0, &header, sizeof(header), elf_header_name, err);
	if (r)
		return r;
	*ret_machine = header.e_machine;
	*ret_type = header.e_type;
	*ret_entry_bytes = header.e_phentsize;
	ret->entry = header.e_entry;
	ret->segments_offset = header.e_phoff;
	ret->segment_count = header.e_phnum;
	return 0;
}

int elf_recognise(const struct image *image, struct elf_kernel *ret, struct err *err)
{
	uint8_t ident[EI_NIDENT];
	if (image->size < SELFMAG)
		return 0;
	int r = image_read(image, 0, ident, SELFMAG, elf_header_name, err);
	if (r)
		return r;
	if (memcmp(ident, ELFMAG, SELFMAG) != 0)
		return 0;
	r = image_read(image, 0, ident, sizeof(ident), elf_header_name, err);
	if (r)
		return r;
	bool is_64bit = ident[EI_CLASS] == ELFCLASS64;
	if ((!is_64bit && ident[EI_CLASS] != ELFCLASS32) || ident[EI_DATA] != ELFDATA2LSB)
		return err_set(err, -EINVAL,
			       "%s: an ELF file, but neither of 32 nor of 64 bits, little-endian",
			       image->path);

	uint16_t machine = 0;
	uint16_t type = 0;
	uint16_t entry_bytes = 0;
	*ret = (struct elf_kernel){.is_64bit = is_64bit};
	r = elf_read_header(image, ret, &machine, &type, &entry_bytes, err);
	if (r)
		return r;
	if (machine != EM_386 && machine != EM_X86_64)
		return err_set(err, -EINVAL, "%s: an ELF file for machine %u, not for x86", image->path,
			       machine);
	if (type != ET_EXEC && type != ET_DYN)
		return err_set(err, -EINVAL, "%s: an ELF file, but no executable (type %u)", image->path,
			       type);
	if (entry_bytes != (is_64bit ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return err_set(err, -EINVAL, "%s: its ELF program headers have %u bytes each", image->path,
			       entry_bytes);
	if (ret->segment_count == 0 || ret->segment_count > ELF_SEGMENTS_MAX)
		return err_set(err, -EINVAL, "%s: %u ELF program headers; 1 to %d would be accepted",
			       image->path, ret->segment_count, ELF_SEGMENTS_MAX);
	return 1;
}

/* Offsets are at most 64 entries beyond one from the file; image_read refuses it if the sum has wrapped or is
 * outside. */
static int elf_read_segment(const struct image *image, const struct elf_kernel *elf, uint32_t index,
			    struct elf_segment *ret, struct err *err)
{
	if (elf->segments_offset > image->size) /* now the sums below cannot wrap */
		return err_set(err, -EINVAL, "%s: truncated: %s are beyond its end", image->path,
			       elf_segments_name);
	if (elf->is_64bit) {
		Elf64_Phdr header;
		int r = image_read(image, elf->segments_offset + index * sizeof(header), &header,
				   sizeof(header), elf_segments_name, err);
		if (r)
			return r;
		*ret = (struct elf_segment){header.p_type,   header.p_offset, header.p_vaddr, header.p_paddr,
					    header.p_filesz, header.p_memsz,  header.p_align};
	} else {
		Elf32_Phdr header;
		int r = image_read(image, elf->segments_offset + index * sizeof(header), &header,
				   sizeof(header), elf_segments_name, err);
		if (r)
			return r;
		*ret = (struct elf_segment){header.p_type,   header.p_offset, header.p_vaddr, header.p_paddr,
					    header.p_filesz, header.p_memsz,  header.p_align};
	}
	if (ret->type == PT_LOAD && ret->file_bytes > ret->memory_bytes)
		return err_set(err, -EINVAL,
			       "%s: segment %u has more bytes in the file (0x%" PRIx64
			       ") than in memory (0x%" PRIx64 ")",
			       image->path, index, ret->file_bytes, ret->memory_bytes);
	return 0;
}

static uint64_t align_up(uint64_t value, uint64_t power_of_two)
{
	return (value + power_of_two - 1) & ~(power_of_two - 1);
}

/*
 * A note is a header, the owner's name with its 0, and the value, the latter two padded to 4 bytes, or to 8
 * in a segment so aligned (System V ABI, "Note Section"; the 8 is what binutils does). Sizes are 32 bits and
 * the segment is small, so that no sum here can wrap.
 */
static int elf_find_note_in(const struct image *image, const struct elf_segment *segment, const char *owner,
			    uint32_t type, uint64_t *ret_value, struct err *err)
{
	const uint64_t padding = segment->alignment == 8 ? 8 : 4;
	const size_t owner_bytes = strlen(owner) + 1;
	char name[16];

	if (segment->file_bytes > ELF_NOTES_BYTES_MAX || segment->offset > image->size)
		return err_set(err, -EINVAL, "%s: ELF notes of 0x%" PRIx64 " bytes at offset 0x%" PRIx64,
			       image->path, segment->file_bytes, segment->offset);
	uint64_t at = segment->offset;
	const uint64_t end = at + segment->file_bytes;
	while (end - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note; /* the same as Elf32_Nhdr */
		int r = image_read(image, at, &note, sizeof(note), elf_notes_name, err);
		if (r)
			return r;
		uint64_t name_at = at + sizeof(note);
		uint64_t value_at =
			align_up(name_at + note.n_namesz - segment->offset, padding) + segment->offset;
		uint64_t next =
			align_up(value_at + note.n_descsz - segment->offset, padding) + segment->offset;
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
		struct elf_segment segment = {0};
		int r = elf_read_segment(image, elf, i, &segment, err);
		if (r == 0 && segment.type == PT_NOTE)
			r = elf_find_note_in(image, &segment, owner, type, ret_value, err);
		if (r)
			return r;
	}
	return 0;
}

static int elf_load_segment(struct load *load, uint32_t index, const struct elf_segment *segment,
			    struct err *err)
{
	int r = places_take(&load->places, segment->paddr, segment->memory_bytes, err, "segment %u", index);
	if (r)
		return err_prepend(err, "%s", load->kernel.path);
	uint8_t *dst = guest_memory_at(load->memory, segment->paddr, segment->memory_bytes);
	memset(dst + segment->file_bytes, 0, segment->memory_bytes - segment->file_bytes);
	if (segment->file_bytes == 0) /* its offset means nothing then */
		return 0;
	return image_read(&load->kernel, segment->offset, dst, segment->file_bytes, "a segment", err);
}

int elf_load(struct load *load, const struct elf_kernel *elf, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		struct elf_segment segment = {0};
		int r = elf_read_segment(&load->kernel, elf, i, &segment, err);
		if (r == 0 && segment.type == PT_LOAD && segment.memory_bytes)
			r = elf_load_segment(load, i, &segment, err);
		if (r)
			return r;
	}
	return 0;
}

int elf_has_byte(const struct image *image, const struct elf_kernel *elf, uint64_t gpa, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		struct elf_segment segment = {0};
		int r = elf_read_segment(image, elf, i, &segment, err);
		if (r)
			return r;
		if (segment.type == PT_LOAD && gpa >= segment.paddr &&
		    gpa - segment.paddr < segment.file_bytes)
			return 1;
	}
	return 0;
}

int elf_entry_gpa(const struct image *image, const struct elf_kernel *elf, uint64_t *ret_gpa, struct err *err)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		struct elf_segment segment = {0};
		int r = elf_read_segment(image, elf, i, &segment, err);
		if (r)
			return r;
		if (segment.type == PT_LOAD && elf->entry >= segment.vaddr &&
		    elf->entry - segment.vaddr < segment.file_bytes) {
			*ret_gpa = elf->entry - segment.vaddr + segment.paddr;
			return 1;
		}
	}
	*ret_gpa = elf->entry;
	return elf_has_byte(image, elf, elf->entry, err);
}
