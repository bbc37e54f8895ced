/*
 * The guest's buffers for packets to it: chains of a receive queue that were popped and are not given back
 * yet. They are given back in any order, but only the one that was popped last can be put back unused; so
 * those in which nothing is are kept in the order in which they were popped, and the oldest is written to
 * first.
 */
#ifndef AERIE_DEVICES_VIRTIO_NET_BUFFERS_H
#define AERIE_DEVICES_VIRTIO_NET_BUFFERS_H

#include "virtq.h"

#include <stdbool.h>
#include <stdint.h>

struct net;

enum { NET_BUFFER_INLINE_IOVS = 4 };

struct net_buffer {
	struct virtq_chain chain; /* what we may write of it; iov: inline_iov, or memory of its own */
	struct iovec inline_iov[NET_BUFFER_INLINE_IOVS];
	struct net_buffer *next;
};

struct net_buffers {
	struct net_buffer *first, *last;
};

/* All that we hold of one queue. On the I/O thread. */
struct net_stock {
	struct net *net;
	struct virtq *vq;
	struct net_buffer *heads; /* one for each head */
	struct net_buffers spare; /* popped, and nothing is in them; the oldest first */
	struct iovec *popped;	  /* VIRTQ_SIZE_MAX, for a chain being popped */
	uint32_t desc_held;	  /* ring descriptors of all that were popped */
};

int net_stock_init(struct net_stock *stock, struct net *net, struct virtq *vq); /* -ENOMEM */
void net_stock_finish(struct net_stock *stock); /* nothing is held any more; also after a failed init */

/* A chain to write to: one that we have, or the guest's next. NULL: none, or the guest has broken a rule. */
struct net_buffer *net_stock_take(struct net_stock *stock);
/* Nothing is in them after all. */
void net_stock_put(struct net_stock *stock, struct net_buffer *buffer);
void net_stock_put_all(struct net_stock *stock, struct net_buffers *from);
/* It has been pushed. */
void net_stock_forget(struct net_stock *stock, struct net_buffer *buffer);
/* All spare ones back to the guest. The caller interrupts. */
void net_stock_return(struct net_stock *stock);

static inline void net_buffers_add(struct net_buffers *list, struct net_buffer *buffer)
{
	buffer->next = NULL;
	if (list->first)
		list->last->next = buffer;
	else
		list->first = buffer;
	list->last = buffer;
}

static inline struct net_buffer *net_buffers_take(struct net_buffers *list)
{
	struct net_buffer *buffer = list->first;
	if (buffer)
		list->first = buffer->next;
	return buffer;
}

static inline bool net_buffer_is_older(const struct net_buffer *a, const struct net_buffer *b)
{
	return (int16_t)(a->chain.order - b->chain.order) < 0;
}

#endif
