/* The guest's receive buffers (VIRTIO 1.3, 5.1.6.3); net_buffers.h says how they are kept. */
#include "net.h"

#include <errno.h>
#include <string.h>

int net_stock_init(struct net_stock *stock, struct net *net, struct virtq *vq)
{
	*stock = (struct net_stock){.net = net, .vq = vq};
	stock->heads = calloc(vq->setup.size, sizeof(*stock->heads));
	stock->popped = calloc(VIRTQ_SIZE_MAX, sizeof(*stock->popped));
	return stock->heads && stock->popped ? 0 : -ENOMEM;
}

void net_stock_finish(struct net_stock *stock)
{
	free(take_ptr(stock->heads));
	free(take_ptr(stock->popped));
}

void net_stock_put(struct net_stock *stock, struct net_buffer *buffer)
{
	struct net_buffers *spare = &stock->spare;
	if (!spare->first || net_buffer_is_older(spare->last, buffer)) {
		net_buffers_add(spare, buffer);
		return;
	}
	struct net_buffer **at = &spare->first;
	while (net_buffer_is_older(*at, buffer))
		at = &(*at)->next;
	buffer->next = *at;
	*at = buffer;
}

void net_stock_put_all(struct net_stock *stock, struct net_buffers *from)
{
	struct net_buffer *buffer;
	while ((buffer = net_buffers_take(from)))
		net_stock_put(stock, buffer);
}

void net_stock_forget(struct net_stock *stock, struct net_buffer *buffer)
{
	stock->desc_held -= buffer->chain.desc_count;
	if (buffer->chain.iov != buffer->inline_iov)
		free(buffer->chain.iov);
	buffer->chain.iov = NULL;
}

/* The chain that was popped gets a place of its own, with those of its buffers that we may write. */
static struct net_buffer *keep_chain(struct net_stock *stock, const struct virtq_chain *chain)
{
	struct net_buffer *buffer = &stock->heads[chain->head];
	size_t bytes = chain->write_count * sizeof(struct iovec);
	struct iovec *iov = chain->write_count <= NET_BUFFER_INLINE_IOVS ? buffer->inline_iov
									 : (struct iovec *)malloc(bytes);
	if (!iov)
		return NULL;
	memcpy(iov, chain->iov + chain->read_count, bytes);
	buffer->chain = *chain;
	buffer->chain.iov = iov;
	buffer->chain.read_count = 0;
	buffer->chain.read_bytes = 0;
	stock->desc_held += chain->desc_count;
	return buffer;
}

struct net_buffer *net_stock_take(struct net_stock *stock)
{
	struct virtq_chain chain = {.iov = stock->popped, .iov_max = VIRTQ_SIZE_MAX};
	struct net_buffer *buffer = net_buffers_take(&stock->spare);
	if (buffer || stock->net->broken)
		return buffer;
	int got = virtq_pop(stock->vq, &chain);
	if (got == 0)
		return NULL;
	if (got > 0 && chain.write_bytes >= NET_HEADER_BYTES && (buffer = keep_chain(stock, &chain)))
		return buffer;
	if (got > 0)
		(void)virtq_push(stock->vq, &chain, 0);
	net_break(stock->net, got < 0 ? stock->vq->why
			      : chain.write_bytes < NET_HEADER_BYTES
				      ? "a receive buffer without room for a header"
				      : strerror(ENOMEM));
	return NULL;
}

/*
 * What was popped last can be put back as if it had never been; a chain with used ones behind it cannot, and
 * comes back with nothing in it, which drivers count as a runt.
 */
void net_stock_return(struct net_stock *stock)
{
	bool returned = true;
	while (returned && stock->spare.first) {
		struct net_buffers rest = {NULL, NULL};
		struct net_buffer *buffer;
		returned = false;
		while ((buffer = net_buffers_take(&stock->spare))) {
			if (virtq_unpop(stock->vq, &buffer->chain) == 0) {
				net_stock_forget(stock, buffer);
				returned = true;
			} else {
				net_buffers_add(&rest, buffer);
			}
		}
		stock->spare = rest;
	}
	struct net_buffer *buffer;
	while ((buffer = net_buffers_take(&stock->spare))) {
		(void)virtq_push(stock->vq, &buffer->chain, 0);
		net_stock_forget(stock, buffer);
	}
}
