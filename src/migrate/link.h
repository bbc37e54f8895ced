/* Messages over a channel: numbered, checked, bounded. See wire.h for their bytes. */
#ifndef AERIE_MIGRATE_LINK_H
#define AERIE_MIGRATE_LINK_H

#include "channel.h"
#include "wire.h"

struct link {
	struct channel channel;
	uint16_t version;	 /* 0 until both have agreed */
	uint32_t sent, received; /* messages */
	uint8_t *payload;	 /* of the last message received, 8-aligned; ours until the next one */
	size_t capacity;
};

/* The message is `length` bytes at `message` + WIRE_HEADER_BYTES; the header is written into what is before.
 * *ret_sent (may be NULL): as channel_send. */
int link_send(struct link *link, unsigned type, void *message, size_t length, size_t *ret_sent,
	      struct err *err);
/* The same of a payload that was summed while it was made. */
int link_send_summed(struct link *link, unsigned type, void *message, size_t length, uint32_t crc,
		     size_t *ret_sent, struct err *err);
/* The same for a small payload, or none (NULL). */
int link_send_small(struct link *link, unsigned type, const void *payload, size_t length, size_t *ret_sent,
		    struct err *err);
int link_send_number(struct link *link, unsigned type, uint32_t number, struct err *err);
enum { LINK_SMALL_MAX = WIRE_REASON_MAX };

/* MISSING, as many as it takes for `words` of a bitmap, and one at least. */
int link_send_missing(struct link *link, const uint64_t *bitmap, size_t words, struct err *err);

/*
 * The next message; its payload is link->payload, header->length bytes. REFUSED is an error that has the
 * other side's reason, -EREMOTEIO.
 */
int link_receive(struct link *link, struct wire_header *ret, struct err *err);
/* ... which must be of this type. */
int link_expect(struct link *link, unsigned type, struct wire_header *ret, struct err *err);

/*
 * After an error: who closes a connection says why before it does, and what breaks here may be a send. If
 * such a reason lies unread, or comes within half a second, it takes the place of what `err` says.
 */
void link_explain(struct link *link, struct err *err);

void link_close(struct link *link);

#endif
