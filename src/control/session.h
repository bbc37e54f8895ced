/*
 * One client's conversation, without its socket: bytes in, replies out.
 *
 * It begins with the greeting and in negotiation mode, where only qmp_capabilities is known. Commands are
 * answered in the order in which they came, each before the next is looked at; a command that takes time
 * makes the session busy, and it takes no bytes meanwhile, which is how a client is throttled.
 */
#ifndef AERIE_SRC_CONTROL_SESSION_H
#define AERIE_SRC_CONTROL_SESSION_H

#include "command.h"
#include "frame.h"

struct session {
	struct frame frame;
	const struct command *const *tables;
	struct control *control;
	bool ready; /* negotiated: events may be sent */
	bool dead;  /* beyond help (too long, too deep, no memory): to be hung up on */
	bool dispatching;
	struct request *request; /* under way */
	void (*send)(struct session *session, const char *text, size_t len);
	void (*wake)(struct session *session); /* not busy any more: session_feed again */
};

/* `send` and `wake` are set already; sends the greeting. */
void session_start(struct session *session);
void session_finish(struct session *session);

static inline bool session_busy(const struct session *session)
{
	return session->request && !session->dispatching;
}

/* Takes bytes up to the end of a message, which it then answers, and returns how many: 0 when the message
 * ended with the byte before, and while it is busy or dead. */
size_t session_feed(struct session *session, const char *data, size_t len);

#endif
