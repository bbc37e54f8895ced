/*
 * The statistics file of KVM (api.rst 4.131):
 *
 *	header       flags, name_size, num_desc, id_offset, desc_offset, data_offset: six 32-bit words
 *	id           name_size bytes, text with its 0: whose they are, which we know
 *	descriptors  num_desc times { u32 flags; s16 exponent; u16 size; u32 offset; u32 bucket_size; }
 *	             and name_size bytes of name with its 0
 *	data         64-bit values; a descriptor's are the `size` ones at `offset` bytes from data_offset
 *
 * flags of a descriptor: kind in bits 3:0, unit in 7:4, base in 11:8.
 */
#include "host/stats.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "host/kvm.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	HEADER_BYTES = 24,
	DESCRIPTOR_BYTES = 16, /* without the name */
	/* Several times what any kernel has: a file that asks for more is not one. */
	NAME_MAX_BYTES = 256,
	STATS_MAX = 1024,
	VALUES_MAX = 4096, /* of one descriptor */
	DATA_MAX_BYTES = 1 << 20,
};

struct kvm_stats {
	int fd;
	uint32_t data_offset;
	uint32_t value_count; /* of the whole data block */
	uint64_t *values;
	char *names; /* each figure's; name_size bytes each */
	size_t count;
	struct kvm_stat list[];
};

struct header {
	uint32_t name_size, count, desc_offset, data_offset;
};

/* `len` bytes or an error: EIO when the file ends before. */
static int read_all(int fd, void *data, size_t len, off_t offset)
{
	uint8_t *at = data;
	while (len > 0) {
		ssize_t n = pread(fd, at, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		offset += n;
		len -= (size_t)n;
	}
	return 0;
}

static int read_header(int fd, struct header *ret, struct err *err)
{
	uint8_t raw[HEADER_BYTES];
	int r = read_all(fd, raw, sizeof(raw), 0);
	if (r < 0)
		return err_sys(err, r, "KVM statistics");
	*ret = (struct header){
		.name_size = load_le32(raw + 4),
		.count = load_le32(raw + 8),
		.desc_offset = load_le32(raw + 16),
		.data_offset = load_le32(raw + 20),
	};
	if (ret->name_size == 0 || ret->name_size > NAME_MAX_BYTES || ret->count > STATS_MAX)
		return err_set(err, -EPROTO, "KVM statistics: %u figures with names of %u bytes", ret->count,
			       ret->name_size);
	return 0;
}

/* Names go into JSON and onto terminals. */
static bool name_is_plain(const char *name, uint32_t size)
{
	size_t len = strnlen(name, size);
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	return len > 0 && len < size;
}

static int parse_descriptor(struct kvm_stats *stats, const uint8_t *raw, const char *name, uint32_t name_size,
			    struct err *err)
{
	uint32_t flags = load_le32(raw), count = load_le16(raw + 6), offset = load_le32(raw + 8);
	uint32_t kind = flags & KVM_STATS_TYPE_MASK,
		 unit = (flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT;

	if (!name_is_plain(name, name_size))
		return err_set(err, -EPROTO, "KVM statistics: figure %zu has no proper name", stats->count);
	if (count == 0 || count > VALUES_MAX || offset % 8 != 0 || offset > DATA_MAX_BYTES - VALUES_MAX * 8)
		return err_set(err, -EPROTO, "KVM statistics: %s has %u values at offset %u", name, count,
			       offset);
	if (kind > KVM_STAT_LOG_HISTOGRAM || unit > KVM_STAT_BOOLEAN)
		return 0; /* of a later kernel: what it means is not known here */
	struct kvm_stat *stat = &stats->list[stats->count++];
	*stat = (struct kvm_stat){
		.name = name,
		.kind = kind,
		.unit = unit,
		.base = flags & KVM_STATS_BASE_MASK ? 2 : 10,
		.exponent = (int16_t)load_le16(raw + 4),
		.bucket_size = load_le32(raw + 12),
		.first = offset / 8,
		.count = count,
	};
	if (stat->first + count > stats->value_count)
		stats->value_count = stat->first + count;
	return 0;
}

static int read_descriptors(struct kvm_stats *stats, const struct header *header, struct err *err)
{
	size_t stride = DESCRIPTOR_BYTES + header->name_size;
	_cleanup_free_ uint8_t *raw = calloc(header->count + 1, stride);
	if (!raw)
		return err_sys(err, -ENOMEM, "KVM statistics");
	int r = read_all(stats->fd, raw, header->count * stride, header->desc_offset);
	if (r < 0)
		return err_sys(err, r, "KVM statistics");
	for (uint32_t i = 0; i < header->count; i++) {
		const uint8_t *descriptor = raw + i * stride;
		char *name = stats->names + (size_t)i * header->name_size;
		memcpy(name, descriptor + DESCRIPTOR_BYTES, header->name_size);
		r = parse_descriptor(stats, descriptor, name, header->name_size, err);
		if (r < 0)
			return r;
	}
	stats->values = calloc(stats->value_count ? stats->value_count : 1, sizeof(*stats->values));
	return stats->values ? 0 : err_sys(err, -ENOMEM, "KVM statistics");
}

int kvm_stats_open_file(int file, struct kvm_stats **ret, struct err *err)
{
	_cleanup_close_ int fd = file;
	struct header header = {0};
	int r = read_header(fd, &header, err);
	if (r < 0)
		return r;
	struct kvm_stats *stats = calloc(1, sizeof(*stats) + header.count * sizeof(stats->list[0]));
	char *names = calloc(header.count + 1, header.name_size);
	if (!stats || !names) {
		free(stats);
		free(names);
		return err_sys(err, -ENOMEM, "KVM statistics");
	}
	stats->fd = take_fd(&fd);
	stats->names = names;
	stats->data_offset = header.data_offset;
	r = read_descriptors(stats, &header, err);
	if (r < 0) {
		kvm_stats_close(stats);
		return r;
	}
	*ret = stats;
	return 0;
}

int kvm_stats_open(int fd, struct kvm_stats **ret, struct err *err)
{
	int file = kvm_call_value(fd, KVM_GET_STATS_FD, 0);
	if (file == -ENOTTY || file == -EINVAL)
		return err_set(err, -ENOSYS,
			       "KVM statistics: this kernel has none (Linux 5.14 and later do)");
	if (file < 0)
		return err_sys(err, file, "KVM_GET_STATS_FD");
	return kvm_stats_open_file(file, ret, err);
}

void kvm_stats_close(struct kvm_stats *stats)
{
	if (!stats)
		return;
	(void)close_fd(stats->fd);
	free(stats->values);
	free(stats->names);
	free(stats);
}

size_t kvm_stats_count(const struct kvm_stats *stats)
{
	return stats->count;
}

const struct kvm_stat *kvm_stats_at(const struct kvm_stats *stats, size_t index)
{
	return index < stats->count ? &stats->list[index] : NULL;
}

const struct kvm_stat *kvm_stats_find(const struct kvm_stats *stats, const char *name)
{
	for (size_t i = 0; i < stats->count; i++)
		if (strcmp(stats->list[i].name, name) == 0)
			return &stats->list[i];
	return NULL;
}

const uint64_t *kvm_stats_read(struct kvm_stats *stats)
{
	int r = read_all(stats->fd, stats->values, stats->value_count * sizeof(*stats->values),
			 stats->data_offset);
	if (r == 0)
		return stats->values;
	errno = -r;
	return NULL;
}
