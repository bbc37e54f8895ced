/*
 * What a hostile source sends: messages with good headers and checksums, or bytes as they are. The
 * destination has a machine of 1 MiB that takes everything. Rules: an error with a reason, or the machine
 * runs, and then only after RUN; never a byte outside. In post-copy it runs and waits for pages in vain.
 *
 * Input: records of u8 what, le16 length, that many bytes. what: bits 0 to 4 a message type; bit 5: the
 * version is the first byte; bit 6: as it is, no message; bit 7: the payload is that of a PAGES message whose
 * pages are one byte each.
 */
#include "fuzz.h"

#include "../../src/migrate/dest.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/layout.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STREAM_MAX = 150000, RECORD_MAX = 4096 };

static bool ran;
static enum protocol_state state_at_run;
static struct dest dest;

static int take_config(struct guest *guest, const char *config, size_t bytes, struct err *err)
{
	(void)guest, (void)err;
	FUZZ_CHECK(strlen(config) <= bytes);
	return 0;
}

static int take_state(struct guest *guest, const void *state, size_t bytes, struct err *err)
{
	(void)guest;
	return bytes && *(const uint8_t *)state == 0xff ? err_set(err, -22, "a state that cannot be") : 0;
}

/* A loader touches RAM, whatever of it is there. */
static int load_state(struct guest *guest, const void *state, size_t bytes, struct err *err)
{
	uint64_t gpa = bytes ? *(const uint8_t *)state * UINT64_C(4096) : 0;
	FUZZ_CHECK(guest_memory_write(guest->memory, gpa, "loaded", 6) == 0);
	return take_state(guest, state, bytes, err);
}

static int look_at_disks(struct guest *guest, struct wire_disks *ret, struct err *err)
{
	(void)guest, (void)err;
	*ret = (struct wire_disks){.count = 1, .bytes = {4096}};
	return 0;
}

static int run(struct guest *guest, bool running, struct err *err)
{
	(void)guest, (void)running, (void)err;
	FUZZ_CHECK(!ran);
	ran = true;
	state_at_run = dest.state;
	return 0;
}

static int lack_pages(struct guest *guest, bool partial, struct err *err)
{
	(void)guest, (void)partial, (void)err;
	return 0;
}

static const struct guest_ops ops = {.disks = look_at_disks,
				     .accept = take_config,
				     .rehearse = take_state,
				     .load = load_state,
				     .run = run,
				     .partial = lack_pages};

/* Nobody comes again. */
static void end_when_paused(struct dest *dest_at)
{
	if (dest_status(dest_at) == MIGRATE_POSTCOPY_PAUSED)
		dest_cancel(dest_at);
}

/* PAGES from a few bytes: flags, then an entry and the content of each page. */
static size_t expand_pages(const uint8_t *data, size_t len, uint8_t *out)
{
	struct writer w = writer_on(out, WIRE_PAGES_HEADER_BYTES + 16 * (8 + WIRE_PAGE_BYTES));
	uint32_t count = len < 2 ? 0 : (uint32_t)(len - 1) / 2;
	if (count > 16)
		count = 16;
	write_le32(&w, len ? data[0] & 3 : 0);
	write_le32(&w, count);
	for (uint32_t i = 0; i < count; i++)
		write_le64(&w, data[1 + 2 * i]);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t page[WIRE_PAGE_BYTES];
		memset(page, data[2 + 2 * i], sizeof(page));
		if (!(data[1 + 2 * i] & 1))
			write_bytes(&w, page, sizeof(page));
	}
	return w.used;
}

static size_t build(const uint8_t *data, size_t size, uint8_t *stream)
{
	static uint8_t payload[WIRE_PAGES_HEADER_BYTES + 16 * (8 + WIRE_PAGE_BYTES)];
	uint32_t number = 0;
	size_t used = 0;
	while (size >= 3) {
		uint8_t what = data[0];
		size_t len = load_le16(data + 1) % RECORD_MAX;
		data += 3;
		size -= 3;
		len = len < size ? len : size;
		const uint8_t *bytes = data;
		data += len;
		size -= len;
		uint16_t version = WIRE_VERSION;
		if ((what & 0x20) && len) {
			version = *bytes++;
			len--;
		}
		if (what & 0x80) {
			len = expand_pages(bytes, len, payload);
			bytes = payload;
		}
		if (used + WIRE_HEADER_BYTES + len > STREAM_MAX)
			break;
		if (!(what & 0x40)) {
			const struct wire_header header = {version, what & 0x1f, (uint32_t)len, number++,
							   crc32c(0, bytes, len)};
			wire_encode(stream + used, &header);
			used += WIRE_HEADER_BYTES;
		}
		memcpy(stream + used, bytes, len);
		used += len;
	}
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t stream[STREAM_MAX];
	static struct guest_memory *memory;
	static const struct memory_config config = {.size_bytes = MIB, .shared = true};
	struct err err = ERR_INIT;
	struct uri uri;
	char text[32];
	int pair[2], room = 1 << 20;
	log_set_level(LOG_ERROR);
	if (!memory)
		FUZZ_CHECK(guest_memory_create(&config, &memory, &err) == 0);
	struct guest guest = {&ops, memory};
	size_t used = build(data, size, stream);
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	ssize_t sent = send(pair[0], stream, used, MSG_DONTWAIT | MSG_NOSIGNAL); /* or its beginning */
	FUZZ_CHECK(sent >= 0);
	(void)shutdown(pair[0], SHUT_WR);
	(void)snprintf(text, sizeof(text), "fd:%d", pair[1]);
	FUZZ_CHECK(uri_parse(text, &uri, &err) == 0);
	ran = false;
	int r = dest_init(&dest, &uri, NULL, &err);
	if (r == 0)
		r = dest_begin(&dest, &err);
	dest.guest = &guest;
	dest.moved = end_when_paused;
	if (r == 0)
		r = dest_run(&dest, &err);
	bool paused = r == -ECANCELED && dest.state == DST_PAUSED;
	FUZZ_CHECK(r == 0 || paused ? ran : *err.text && !ran);
	FUZZ_CHECK(!ran || state_at_run == DST_RUN || state_at_run == DST_LATE_RUN);
	dest_finish(&dest);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
