/* Messages and their numbers. */
#include "../../src/migrate/link.h"
#include "base/cleanup.h"
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static void open_pair(struct link *from, struct link *to, struct canceller *canceller)
{
	int pair[2];
	struct err err = ERR_INIT;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(canceller_init(&canceller[0], &err), 0);
	ck_assert_int_eq(canceller_init(&canceller[1], &err), 0);
	*from = (struct link){.channel = {.fd = pair[0], .canceller = &canceller[0], .timeout_ms = 1000}};
	*to = (struct link){.channel = {.fd = pair[1], .canceller = &canceller[1], .timeout_ms = 1000}};
}

/* Who could not send something can still say why. */
START_TEST(what_has_not_left_has_no_number)
{
	struct canceller canceller[2];
	struct link from, to;
	struct wire_header header;
	struct err err = ERR_INIT;
	size_t sent = 1;
	open_pair(&from, &to, canceller);
	ck_assert_int_eq(link_send_number(&from, WIRE_WELCOME, 7, &err), 0);
	canceller_fire(&canceller[0]);
	ck_assert_int_eq(link_send_small(&from, WIRE_READY, NULL, 0, &sent, &err), -ECANCELED);
	ck_assert_uint_eq(sent, 0);
	canceller_reset(&canceller[0]);
	err = ERR_INIT;
	ck_assert_int_eq(link_send_small(&from, WIRE_REFUSED, "why", 3, NULL, &err), 0);
	ck_assert_int_eq(link_expect(&to, WIRE_WELCOME, &header, &err), 0);
	ck_assert_int_eq(link_receive(&to, &header, &err), -EREMOTEIO);
	ck_assert_str_eq(err.text, "the other side refuses: why");
	link_close(&from);
	link_close(&to);
	canceller_finish(&canceller[0]);
	canceller_finish(&canceller[1]);
}
END_TEST

TEST_MAIN("link", what_has_not_left_has_no_number)
