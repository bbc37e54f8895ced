/*
 * The bytes of a migration. All numbers are little-endian.
 *
 * A message is a header of 24 bytes and a payload:
 *
 *	0	le32	magic	0x47494d41, "AMIG"
 *	4	le16	version	WIRE_VERSION; in HELLO the newest the sender speaks
 *	6	le16	type	enum wire_type
 *	8	le32	length	of the payload, bytes; bounded for each type before anything is allocated
 *	12	le32	number	counts a direction's messages of a channel from 0: none is lost or doubled
 *	16	le32	crc	CRC-32C of the payload
 *	20	le32	crc	CRC-32C of bytes 0 to 19
 *
 * The payloads:
 *
 * HELLO: le32 flags (WIRE_F_), le32 further channels (0 to WIRE_CHANNELS_MAX), 16 bytes: id of this
 * migration, random; le64 bytes of RAM, le64 base address of RAM above 4 GiB.
 *
 * WELCOME: le32 flags: those of HELLO that are accepted; the version in its header is what both speak.
 *
 * CONFIG: the machine's configuration, JSON, UTF-8.
 *
 * ACCEPTED: le32 count (0 to WIRE_DISKS_MAX), count times le64: the machine stands, its disks can be reached,
 * and they are so large, in bytes, in the order of the configuration.
 *
 * REHEARSAL: a state (state/file.h), of a moment in which the machine stood still.
 *
 * REHEARSED: nothing: this state can be loaded here.
 *
 * PAGES: le32 flags (bit 0: zstd), le32 count (1 to WIRE_PAGES_MAX), count times le64 (page number << 1 | bit
 * 0: zero page), then the 4096 bytes of each page that is not zero, or, with bit 0, one zstd frame of those.
 *
 * ROUND: le32 number of the round: all its pages are before this on this channel.
 *
 * ROUND_DONE: le32 number of the round: all its pages are in RAM.
 *
 * STATE: le32 round: as ROUND; le32 flags (WIRE_STATE_F_); then the state with which the machine goes on.
 *
 * READY: nothing: the state is loaded, the disks are open; only RUN is missing.
 *
 * RUN: nothing: the receiver runs the machine, the sender never again.
 *
 * RUNNING: nothing.
 *
 * REFUSED: why, UTF-8 text of one line; instead of any answer.
 *
 * CHANNEL: the id of the migration, le32 number of this channel (1 up): first on further connections.
 *
 * MISSING: le64 number of a page (a multiple of 64), then 1 to WIRE_MISSING_WORDS_MAX le64: bit n % 64 of
 * word n / 64 is page n from there on; set: the receiver (before STATE) or the sender (after RESUME) has not
 * got it in its last version. Pages that no message tells of are there.
 *
 * REQUEST: 1 to WIRE_REQUEST_MAX le64: pages that somebody waits for.
 *
 * COMPLETE: nothing: all pages have left. COMPLETED: nothing: they are there.
 *
 * RESUME: the id of a migration in post-copy, first on a new connection. RESUMED: nothing: it is this one,
 * the machine runs here, and MISSING has said what it lacks.
 *
 * MEMFD: le32 0: RAM is in one descriptor, which follows with a byte 'F' outside of any message (SCM_RIGHTS);
 * ROUND_DONE of round 0 answers it. With WIRE_F_LOCAL, instead of all PAGES.
 *
 * Pages go on the further channels if there are any, else on the first one, which has all the rest.
 *
 * A page's number counts 4 KiB pages of RAM through its regions, as dirty tracking does.
 */
#ifndef AERIE_MIGRATE_WIRE_H
#define AERIE_MIGRATE_WIRE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC UINT32_C(0x47494d41)

enum { WIRE_VERSION = 1, WIRE_VERSION_OLDEST = 1, WIRE_HEADER_BYTES = 24 };
enum { WIRE_CHANNELS_MAX = 16, WIRE_ID_BYTES = 16, WIRE_PAGES_MAX = 256, WIRE_PAGE_BYTES = 4096 };
enum { WIRE_DISKS_MAX = 32, WIRE_DISKS_BYTES_MAX = 4 + 8 * WIRE_DISKS_MAX };
enum { WIRE_MISSING_WORDS_MAX = 1 << 14, WIRE_REQUEST_MAX = 64 };
enum { WIRE_REASON_MAX = 1024, WIRE_CONFIG_MAX = 1 << 20, WIRE_STATE_MAX = 256 << 20 };

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_WELCOME,
	WIRE_CONFIG,
	WIRE_ACCEPTED,
	WIRE_REHEARSAL,
	WIRE_REHEARSED,
	WIRE_PAGES,
	WIRE_ROUND,
	WIRE_ROUND_DONE,
	WIRE_STATE,
	WIRE_READY,
	WIRE_RUN,
	WIRE_RUNNING,
	WIRE_REFUSED,
	WIRE_CHANNEL,
	WIRE_MISSING,
	WIRE_REQUEST,
	WIRE_COMPLETE,
	WIRE_COMPLETED,
	WIRE_RESUME,
	WIRE_RESUMED,
	WIRE_MEMFD,
	WIRE_TYPES /* the number of types, and one */
};

/* Of HELLO and WELCOME. LOCAL: RAM is handed over (MEMFD), not sent. */
enum { WIRE_F_ZSTD = 1 << 0, WIRE_F_LOCAL = 1 << 1, WIRE_F_POSTCOPY = 1 << 2 };

/* Of STATE. POSTCOPY: after MISSING. */
enum { WIRE_STATE_F_RUNNING = 1 << 0, WIRE_STATE_F_POSTCOPY = 1 << 1, WIRE_STATE_HEADER_BYTES = 8 };

struct wire_header {
	uint16_t version;
	uint16_t type;
	uint32_t length;
	uint32_t number;
	uint32_t payload_crc;
};

const char *wire_name(unsigned type); /* "HELLO"; "type 77" is not for here: NULL for what is none */

/* The header of `payload`. */
void wire_encode(uint8_t bytes[WIRE_HEADER_BYTES], const struct wire_header *header);

/*
 * -EPROTO with a message that says what is wrong: not a migration, damaged, of another version than `version`
 * (0: any that has the layout above), unknown, longer than its type may be.
 */
int wire_decode(const uint8_t bytes[WIRE_HEADER_BYTES], uint16_t version, struct wire_header *ret,
		struct err *err);

/* ---- payloads ---- */

struct wire_hello {
	uint32_t flags, channels;
	uint8_t id[WIRE_ID_BYTES];
	uint64_t ram_bytes, high_gpa;
};
enum { WIRE_HELLO_BYTES = 40, WIRE_CHANNEL_BYTES = 20 };

void wire_encode_hello(uint8_t bytes[WIRE_HELLO_BYTES], const struct wire_hello *hello);
int wire_decode_hello(const uint8_t *bytes, size_t len, struct wire_hello *ret, struct err *err);

/* ACCEPTED. The length; -EPROTO: not as many as it says, or more than there can be. */
struct wire_disks {
	uint32_t count;
	uint64_t bytes[WIRE_DISKS_MAX];
};
size_t wire_encode_disks(uint8_t bytes[WIRE_DISKS_BYTES_MAX], const struct wire_disks *disks);
int wire_decode_disks(const uint8_t *bytes, size_t len, struct wire_disks *ret, struct err *err);

/* A payload of one number: WELCOME, ROUND, ROUND_DONE, MEMFD. */
int wire_decode_number(const uint8_t *bytes, size_t len, uint32_t *ret, struct err *err);

/* PAGES. Entries and bytes are borrowed from the payload. */
enum { WIRE_PAGES_F_ZSTD = 1 << 0, WIRE_PAGES_HEADER_BYTES = 8 };
struct wire_pages {
	uint32_t flags, count, data_count; /* pages; those that are not zero */
	const uint8_t *entries;		   /* count times le64 */
	const uint8_t *data;
	size_t data_bytes; /* without zstd: data_count pages exactly */
};

static inline uint64_t wire_entry(uint64_t page, bool zero)
{
	return page << 1 | (zero ? 1U : 0U);
}

/* Checks all of it; each page is below `page_count`. */
int wire_decode_pages(const uint8_t *bytes, size_t len, uint64_t page_count, struct wire_pages *ret,
		      struct err *err);
uint64_t wire_pages_entry(const struct wire_pages *pages, uint32_t index, bool *ret_zero); /* page number */

/*
 * MISSING: sets the bits that it tells of in `bitmap`, which is for `page_count` pages. Nothing is set when
 * it is no good.
 */
enum { WIRE_MISSING_HEADER_BYTES = 8 };
int wire_decode_missing(const uint8_t *bytes, size_t len, uint64_t page_count, uint64_t *bitmap,
			struct err *err);
/* Words from `first` on: the payload's length. `out` has room for WIRE_MISSING_WORDS_MAX of them. */
size_t wire_encode_missing(uint8_t *out, const uint64_t *bitmap, size_t first_word, size_t words);

/* REQUEST: `pages` has room for WIRE_REQUEST_MAX. */
int wire_decode_request(const uint8_t *bytes, size_t len, uint64_t page_count, uint64_t *pages,
			uint32_t *ret_count, struct err *err);

#endif
